"""MFAKD with sandglass alone, the narrow VGG8 from VGG11 under protocol G."""

_base_ = './mfakd_vgg8_g.py'
model = dict(connector=dict(branches=('sandglass',)))
