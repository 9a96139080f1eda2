"""Arguments that our own backbones share."""

from functools import partial

import pytest
import torch

from mmkdfuse.models.backbones import (
    VGG,
    VGG_CIFAR,
    MobileNetV1,
    MobileNetV2_CIFAR,
    ShuffleNetV1_CIFAR,
    ShuffleNetV2_CIFAR,
    SqueezeNet,
    ThreeStageResNet,
    WideResNet,
)

# Each with a width that it allows, two that it refuses and its number of stages.
BACKBONES = {
    'VGG': (partial(VGG, 11), 2, (0, 2.5), 4),
    'VGG_CIFAR': (partial(VGG_CIFAR, 8), 2, (0, None), 4),
    'SqueezeNet': (SqueezeNet, 2, (0, -4), 4),
    'MobileNetV1': (MobileNetV1, 2, (0, 2.5), 4),
    'MobileNetV2_CIFAR': (MobileNetV2_CIFAR, 4, (0, 6), 4),
    'ShuffleNetV1_CIFAR': (ShuffleNetV1_CIFAR, 12, (-12, 8), 3),
    'ShuffleNetV2_CIFAR': (ShuffleNetV2_CIFAR, 2, (0, 3), 3),
    'ThreeStageResNet': (partial(ThreeStageResNet, 8), 2, (0, '16'), 3),
    'WideResNet': (partial(WideResNet, 10), 2, (0, None), 3),
}
pytestmark = pytest.mark.parametrize('name', BACKBONES)


@pytest.mark.parametrize('out_indices', [(), (2, 0), (1, 1), (0, 4), (-1,)])
def test_stages_that_do_not_exist_are_refused(name, out_indices):
    backbone, *_, stages = BACKBONES[name]
    with pytest.raises(
        ValueError, match=rf'out_indices=\(.* must be ascending stage .* to {stages - 1}'
    ):
        backbone(out_indices=out_indices)


def test_the_stage_behind_the_last_is_refused(name):
    backbone, *_, stages = BACKBONES[name]
    with pytest.raises(ValueError, match=rf'{name}: out_indices=\({stages},\)'):
        backbone(out_indices=[stages])


def test_widths_that_are_none_are_refused(name):
    backbone, _, refused, _ = BACKBONES[name]
    for base_channels in refused:
        with pytest.raises(ValueError, match=f'base_channels={base_channels!r} must be a positive'):
            backbone(base_channels=base_channels)


def test_single_stages_equal_those_of_all(name):
    backbone, width, _, stages = BACKBONES[name]
    net = backbone(base_channels=width)
    net.eval()
    images = torch.randn(1, 3, 32, 32)
    maps = net(images)
    assert len(maps) == stages
    for index in range(stages):
        one = backbone(base_channels=width, out_indices=[index])
        one.load_state_dict(net.state_dict(), strict=True)
        one.eval()
        (found,) = one(images)
        assert torch.equal(found, maps[index])


def test_mixed_precision_on_a_cpu_passes(name):
    backbone, width, _, stages = BACKBONES[name]
    net = backbone(base_channels=width)
    with torch.autocast('cpu', torch.bfloat16):
        maps = net(torch.randn(2, 3, 32, 32))
    assert len(maps) == stages and all(m.isfinite().all() for m in maps)
