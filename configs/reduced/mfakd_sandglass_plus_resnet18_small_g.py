"""MFAKD with sandglass+ alone, the small ResNet18 from VGG11 under protocol G."""

_base_ = './mfakd_resnet18_small_g.py'
model = dict(connector=dict(branches=('sandglass_plus',)))
