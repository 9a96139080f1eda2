"""ResNet-10."""

from torch import nn

from mmkdfuse.models.backbones import ResNet10


def test_ten_layers():
    net = ResNet10(base_channels=2, stem_channels=2)
    kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(kernels) + 1 == 10  # and the classifier
    assert [len(getattr(net, layer)) for layer in net.res_layers] == [1, 1, 1, 1]
