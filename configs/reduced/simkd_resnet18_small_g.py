"""SimKD, a small ResNet18 (2x2 maps) from VGG11 (4x4) under protocol G."""

_base_ = './simkd_vgg8_g.py'
model = dict(
    student=dict(
        _delete_=True, arch='resnet18', base_channels=8, stem_channels=8, strides=(2, 2, 2, 2)
    )
)
