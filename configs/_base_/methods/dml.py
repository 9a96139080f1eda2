"""DML (Zhang et al., CVPR 2018): the network and one peer like it, temperature 1.

Loss as in the paper, one forward pass for all networks as in the authors' code. Schedule: KFMSD's.
"""

_base_ = './multi_head.py'
model = dict(type='DML', peers=1, tau=1.0)
