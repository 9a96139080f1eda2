"""VGG11 with BN and a quarter of the width under protocol M: the teacher of the pairs under G.

Reduced scale, two CPU cores, see docs/results.md.
"""

_base_ = './baseline_m.py'
model = dict(backbone=dict(_delete_=True, arch='vgg11_bn', base_channels=16))
