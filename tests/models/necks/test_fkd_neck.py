"""The KFD-like neck: what is fused, with which weights, and every path alone."""

import pytest
import torch

from mmkdfuse.models.necks import FKDNeck
from mmkdfuse.models.necks.fkd_neck import SelectiveFusion
from mmkdfuse.models.necks.multi_branch_neck import pool

SHAPES = [(8, 32, 32), (16, 16, 16), (24, 8, 8), (32, 4, 4)]


def stages():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *shape, generator=generator) for shape in SHAPES]


def test_fusion_is_a_convex_combination_per_channel():
    fusion, maps = SelectiveFusion(3, 6), [torch.randn(2, 6, 4, 4) for _ in range(3)]
    hidden = fusion.squeeze(sum(maps).mean(dim=(2, 3)))
    weights = torch.stack([layer(hidden) for layer in fusion.excite]).softmax(dim=0)
    expected = sum(w[..., None, None] * m for w, m in zip(weights, maps, strict=True))
    torch.testing.assert_close(fusion(maps), expected)
    same = [maps[0]] * 3
    torch.testing.assert_close(fusion(same), maps[0])


def test_features_are_those_of_branches_fusion_and_last_stage():
    neck, maps = FKDNeck(SHAPES).eval(), stages()
    features = neck(maps)
    assert neck.num_features == len(features) == 5
    branch_maps = [branch.feature_map(maps) for branch in neck.branches]
    torch.testing.assert_close(features[3], pool(neck.fusion([*branch_maps, maps[-1]])))
    torch.testing.assert_close(features[4], pool(maps[-1]))


@pytest.mark.parametrize('index', range(4))
def test_a_path_works_alone(index):
    neck, maps = FKDNeck(SHAPES).eval(), stages()
    path = neck.path(index)
    assert path.stages_read == index + 1
    assert torch.equal(path(maps[: index + 1]), neck(maps)[index])


def test_wrong_reduction_is_named():
    with pytest.raises(ValueError, match='reduction=0 must be at least 1'):
        FKDNeck(SHAPES, reduction=0)
