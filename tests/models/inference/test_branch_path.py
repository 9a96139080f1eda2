"""One branch alone gives the feature that it gives in the neck."""

import pytest
import torch

from mmkdfuse.registry import MODELS

SHAPES = [(4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 2, 2)]
NECKS = [
    dict(type='KFMNeck'),
    dict(type='KFMNeck', fuse='none', module='sepconv', branches=[1, 3]),
    dict(type='BYOTNeck', form='conference'),
    dict(type='BYOTNeck', form='journal'),
    dict(type='FKDNeck'),
]


def maps_of():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize('neck', NECKS, ids=lambda neck: '-'.join(map(str, neck.values())))
def test_every_branch(neck):
    cfg = dict(neck, stage_shapes=SHAPES)
    whole = MODELS.build(cfg).eval()
    features = whole(maps_of())
    for branch, expected in enumerate(features[:-1], start=1):
        alone = MODELS.build(dict(type='BranchPath', neck=cfg, branch=branch)).eval()
        trained = whole.path(branch - 1)
        alone.load_state_dict({f'path.{k}': v for k, v in trained.state_dict().items()})
        (feature,) = alone(maps_of()[: alone.path.stages_read])
        torch.testing.assert_close(feature, expected, rtol=0, atol=0)
        names = {name.removeprefix('path.') for name in alone.state_dict()}
        assert names == set(trained.state_dict())  # nothing of the other branches


@pytest.mark.parametrize('branch', [0, 4])
def test_a_branch_that_does_not_exist(branch):
    with pytest.raises(ValueError, match=f'branch={branch} must be from 1 to 3, .* of KFMNeck'):
        cfg = dict(type='KFMNeck', stage_shapes=SHAPES)
        MODELS.build(dict(type='BranchPath', neck=cfg, branch=branch))
