"""RSD (Ni et al., 2023), our reading: branches teach the main network, not the reverse.

From the description in paper 000: KFMSD without fusion and with one direction of the divergence;
weights and temperature are KFMSD's. No code of the authors is known to us.
"""

_base_ = './kfmsd.py'
model = dict(neck=dict(fuse='none'), mutual_loss=dict(direction='to_main'))
