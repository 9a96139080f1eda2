"""ResNeXt with the stem for CIFAR."""

import torch
from mmpretrain.models.backbones import ResNeXt

from mmkdfuse.models.backbones import ResNeXt_CIFAR


def test_only_the_stem_differs_from_mmpretrain():
    changes = dict(base_channels=16, width_per_group=1, out_indices=(0, 1, 2, 3))
    ours, theirs = ResNeXt_CIFAR(50, **changes), ResNeXt(50, **changes)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.conv1.weight.shape == (64, 3, 3, 3) and ours.conv1.stride == (1, 1)
    state = {k: v for k, v in ours.state_dict().items() if k != 'conv1.weight'}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert missing == ['conv1.weight'] and not unexpected
    ours.eval(), theirs.eval()
    images = torch.randn(2, 3, 16, 16)
    x = torch.relu(ours.bn1(ours.conv1(images)))
    maps = ours(images)
    assert len(maps) == 4 and maps[0].shape == (2, 64, 16, 16)
    for found, layer in zip(maps, theirs.res_layers, strict=True):
        x = getattr(theirs, layer)(x)
        torch.testing.assert_close(found, x)


def test_groups_shrink_with_the_base_channels():
    for base, width in ((64, 128), (16, 32), (4, 32)):
        convolution = ResNeXt_CIFAR(50, base_channels=base).layer1[0].conv2
        assert convolution.groups == 32 and convolution.out_channels == width
    wide = ResNeXt_CIFAR(50, base_channels=16, width_per_group=4).layer1[0].conv2
    assert wide.out_channels == 128
