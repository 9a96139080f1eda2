"""A small ResNet18 (2x2 maps) from VGG11 (4x4): CIFAR-10, 5,000 images, 100 epochs."""

_base_ = './vgg11_bn_vgg8_cifar10_5k_100e.py'
pair = dict(
    student=dict(
        _delete_=True, arch='resnet18', base_channels=8, stem_channels=8, strides=(2, 2, 2, 2)
    )
)
