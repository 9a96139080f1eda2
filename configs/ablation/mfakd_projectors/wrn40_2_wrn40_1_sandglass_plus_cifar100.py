"""Table 7, WRN-40-1 from WRN-40-2, Sandglass+ alone. Paper: 75.01."""

_base_ = '../../mfakd/wrn40_2_wrn40_1_cifar100.py'
model = dict(connector=dict(branches=('sandglass_plus',), upsample=None))
