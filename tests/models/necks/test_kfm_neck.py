"""Plans, shapes and gradient routes of the branches, for every kind of stage sizes."""

import warnings

import pytest
import torch

from mmkdfuse.models import KFM, KFMNeck
from mmkdfuse.models.necks import plan_branches
from mmkdfuse.models.necks.kfm_neck import BranchPlan

HALVING = [(4, 16, 16), (6, 8, 8), (8, 4, 4), (10, 2, 2), (12, 1, 1)]
SHAPES = {
    'two stages': HALVING[:2],
    'three stages': HALVING[:3],
    'four stages': HALVING[:4],
    'five stages, the last 1x1': HALVING,
    'odd': [(4, 33, 33), (6, 17, 17), (8, 9, 9), (10, 5, 5)],
    'odd, rounded down': [(4, 33, 33), (6, 16, 16), (8, 8, 8), (10, 4, 4)],
    'odd and not square': [(4, 45, 39), (6, 23, 20), (8, 12, 10), (10, 6, 5)],
    'equal neighbours': [(4, 8, 8), (4, 8, 8), (8, 4, 4), (8, 4, 4)],
    'all equal': [(4, 6, 6)] * 4,
    'stride 4': [(4, 32, 32), (6, 8, 8), (8, 2, 2), (10, 1, 1)],
    'stride 4 of odd sizes': [(4, 30, 27), (6, 8, 7), (8, 2, 2), (10, 1, 1)],
    'one axis shrinks': [(4, 8, 8), (6, 8, 4), (8, 8, 2), (10, 8, 1)],
    'a size that no convolution hits': [(4, 10, 10), (6, 7, 7), (8, 5, 5), (10, 3, 3)],
    'channels that fall': [(12, 16, 16), (8, 8, 8), (6, 4, 4), (2, 2, 2)],
    'stride 4 inside': [(4, 40, 24), (6, 40, 24), (8, 10, 6), (10, 10, 6), (12, 3, 2)],
    'growing': [(4, 4, 4), (6, 8, 8), (8, 8, 8), (10, 4, 4)],
}


def maps_of(shapes, images=2, **kwargs):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, *shape, generator=generator, **kwargs) for shape in shapes]


def neck_of(shapes, **kwargs):
    torch.manual_seed(0)
    return KFMNeck(shapes, **kwargs)


def test_plan_of_the_papers_figure_3():
    assert plan_branches(HALVING[:4]) == [
        BranchPlan(stage=0, downsample=True, fuse='fused', modules=(2, 3)),
        BranchPlan(stage=1, downsample=True, fuse='fused', modules=(3,)),
        BranchPlan(stage=2, downsample=False, fuse='none', modules=(3,)),
    ]


def test_plan_in_words():
    plans = plan_branches(HALVING[:4], fuse='detached')
    assert [str(plan) for plan in plans] == [
        'stage 1 -> downsample to stage 2 -> KFM with stage 2 (detached) '
        '-> module(s) in place of stage 3, stage 4 -> pool',
        'stage 2 -> downsample to stage 3 -> KFM with stage 3 (detached) '
        '-> module(s) in place of stage 4 -> pool',
        'stage 3 -> module(s) in place of stage 4 -> pool',
    ]


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('module', ['bottleneck', 'sepconv'])
def test_one_feature_per_branch_and_the_main_networks_last(name, module):
    shapes = SHAPES[name]
    neck, maps = neck_of(shapes, module=module), maps_of(shapes)
    features = neck(maps)
    assert len(features) == neck.num_features == len(shapes)
    assert neck.out_channels == shapes[-1][0]
    assert all(feature.shape == (2, shapes[-1][0]) for feature in features)
    torch.testing.assert_close(features[-1], maps[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize('name', [name for name in SHAPES if name[:4] not in ('a si', 'grow')])
def test_downsampling_alone_gives_the_next_stages_shape(name):
    shapes = SHAPES[name]
    for branch, stage_map in zip(neck_of(shapes).branches, maps_of(shapes), strict=False):
        if branch.plan.downsample:
            assert branch.downsample(stage_map).shape[1:] == shapes[branch.plan.stage + 1]


def test_branch_1_is_downsampling_fusion_and_modules():
    shapes = HALVING[:4]
    neck, maps = neck_of(shapes).eval(), maps_of(shapes)
    branch = neck.branches[0]
    fused = KFM()([branch.downsample(maps[0]), maps[1]])
    module1, module2 = branch.blocks
    expected = module2(module1(fused)).mean(dim=(2, 3))
    torch.testing.assert_close(neck(maps)[0], expected)


def test_the_branch_before_the_last_stage_is_one_module():
    shapes = HALVING[:4]
    neck, maps = neck_of(shapes).eval(), maps_of(shapes)
    (module2,) = neck.branches[2].blocks
    torch.testing.assert_close(neck(maps)[2], module2(maps[2]).mean(dim=(2, 3)))


def test_parameters_of_the_branches():
    def separable(c_in, c_out):
        return 9 * c_in + c_in * c_out + 2 * c_out

    def downsample(c_in, c_out):
        return separable(c_in, c_in) + separable(c_in, c_out)

    def bottleneck(c_in, c_out):
        width = c_out // 4
        return c_in * width + 2 * width + 9 * width**2 + 2 * width + width * c_out + 2 * c_out

    neck = KFMNeck([(8, 8, 8), (16, 4, 4), (32, 2, 2), (64, 1, 1)], fuse='none')
    assert sum(parameter.numel() for parameter in neck.parameters()) == (
        downsample(8, 16) + bottleneck(16, 32) + bottleneck(32, 64)  # branch 1
        + downsample(16, 32) + bottleneck(32, 64)  # branch 2
        + bottleneck(32, 64)  # branch 3
    )  # fmt: skip


@pytest.mark.parametrize(
    ('fuse', 'reaches_deeper'), [('fused', True), ('detached', False), ('none', False)]
)
def test_gradient_into_the_stage_that_is_fused(fuse, reaches_deeper):
    shapes = HALVING[:4]
    maps = maps_of(shapes, requires_grad=True)
    branch1, branch2, branch3, main = neck_of(shapes, fuse=fuse)(maps)
    weights = torch.randn(branch1.shape, generator=torch.Generator().manual_seed(1))

    def reached(feature):
        found = torch.autograd.grad(
            (feature * weights).sum(), maps, allow_unused=True, retain_graph=True
        )
        return [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in found]

    assert reached(branch1) == [True, reaches_deeper, False, False]
    assert reached(branch2) == [False, True, reaches_deeper, False]
    assert reached(branch3) == [False, False, True, False]
    assert reached(main) == [False, False, False, True]


def test_detached_fusion_has_the_same_values_and_no_fusion_has_others():
    maps = maps_of(HALVING[:4])
    fused, detached, none = (
        neck_of(HALVING[:4], fuse=fuse)(maps) for fuse in ('fused', 'detached', 'none')
    )
    for a, b in zip(fused, detached, strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(fused[0], none[0]) and not torch.allclose(fused[1], none[1])
    assert torch.equal(fused[2], none[2]) and torch.equal(fused[3], none[3])


def test_without_fusion_the_downsampled_map_alone_feeds_the_branch():
    neck, maps = neck_of(HALVING[:4], fuse='none').eval(), maps_of(HALVING[:4])
    branch = neck.branches[1]
    expected = branch.blocks(branch.downsample(maps[1])).mean(dim=(2, 3))
    torch.testing.assert_close(neck(maps)[1], expected)


@pytest.mark.parametrize(
    ('sizes', 'unfused'), [((4, 2, 1, 1), [2]), ((2, 1, 1, 1), [1, 2]), ((1, 1, 1, 1), [1, 2])]
)
@pytest.mark.parametrize('fuse', ['fused', 'detached'])
def test_branches_into_a_1x1_stage_are_not_fused_with_one_warning(sizes, unfused, fuse):
    shapes = [(4, size, size) for size in sizes]
    with pytest.warns(UserWarning) as caught:
        neck = neck_of(shapes, fuse=fuse)
    (message,) = [str(warning.message) for warning in caught]
    assert f'branches of stages {unfused} are not fused' in message and '1x1' in message
    fused = [number for number, plan in enumerate(neck.plans, 1) if plan.fuse != 'none']
    assert fused == [number for number in (1, 2) if number not in unfused]
    assert all(feature.shape == (2, 4) for feature in neck(maps_of(shapes)))


@pytest.mark.parametrize('shapes', [HALVING[:4], HALVING])
def test_no_warning_where_nothing_is_left_out(shapes):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        neck_of(shapes)
        neck_of([(4, 1, 1)] * 4, fuse='none')


@pytest.mark.parametrize(
    'scale', [lambda s: 2 * s, lambda s: s // 2, lambda s: s + 1], ids=['twice', 'half', 'plus 1']
)
@pytest.mark.parametrize('fuse', ['fused', 'none'])
def test_maps_of_other_sizes_than_the_probed(scale, fuse):
    shapes = [(4, 32, 32), (6, 16, 16), (8, 8, 8), (10, 4, 4)]
    other = [(channels, scale(height), scale(width)) for channels, height, width in shapes]
    features = neck_of(shapes, fuse=fuse)(maps_of(other))
    assert [tuple(feature.shape) for feature in features] == [(2, 10)] * 4


@pytest.mark.parametrize('branches', [(1,), (1, 3), (2, 3), [1, 2, 3]])
def test_chosen_branches_equal_those_of_the_full_neck(branches):
    full, some = neck_of(HALVING[:4]), KFMNeck(HALVING[:4], branches=branches)
    for number, branch in zip(branches, some.branches, strict=True):
        branch.load_state_dict(full.branches[number - 1].state_dict())
    maps = maps_of(HALVING[:4])
    expected = [*(full.eval()(maps)[number - 1] for number in branches), maps[-1].mean((2, 3))]
    found = some.eval()(maps)
    assert some.num_features == len(branches) + 1
    for feature, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(feature, reference)


@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_number_means_the_deepest_branches(count):
    stages = list(range(4 - count, 4))
    assert plan_branches(HALVING[:4], branches=count) == plan_branches(HALVING[:4], branches=stages)
    neck = neck_of(HALVING[:4], branches=count)
    assert [plan.stage + 1 for plan in neck.plans] == stages
    assert len(neck(maps_of(HALVING[:4]))) == count + 1


@pytest.mark.parametrize(
    'branches', [(), (0,), (4,), (2, 1), (1, 1), (-1,), 0, 4, -1, True, '2', 1.5]
)
def test_refused_branches_are_named(branches):
    with pytest.raises(ValueError, match=r'branches=.*ascending stage numbers from 1 to 3, or how'):
        plan_branches(HALVING[:4], branches=branches)


def test_one_mode_of_fusion_per_branch():
    shapes = HALVING[:4]
    assert [plan.fuse for plan in plan_branches(shapes, ['none', 'detached', 'fused'])] == [
        'none', 'detached', 'none'  # stage 3 has no map to be fused with
    ]  # fmt: skip
    assert [plan.fuse for plan in plan_branches(shapes, ('fused', 'none'), branches=[2, 3])] == [
        'fused', 'none'
    ]  # fmt: skip
    maps = maps_of(shapes)
    mixed = neck_of(shapes, fuse=['none', 'fused', 'none'])(maps)
    alone, fused = neck_of(shapes, fuse='none')(maps), neck_of(shapes)(maps)
    assert torch.equal(mixed[0], alone[0]) and not torch.equal(mixed[0], fused[0])
    assert torch.equal(mixed[1], fused[1]) and not torch.equal(mixed[1], alone[1])


@pytest.mark.parametrize(
    'fuse', [['fused'], ['fused'] * 4, [], ['fused', 'add', 'none'], ['fused', None, 'none']]
)
def test_refused_modes_of_fusion_are_named(fuse):
    with pytest.raises(ValueError, match=r'fuse=\[.* one for each of the 3 branches'):
        plan_branches(HALVING[:4], fuse)


def test_one_stage_is_refused_with_the_argument_to_change():
    with pytest.raises(ValueError, match=r'stage_shapes=.*at least two stages; .*out_indices'):
        KFMNeck([(4, 8, 8)])


def test_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match=r"fuse='add' must be one of \('fused', 'detached'"):
        KFMNeck(HALVING[:4], fuse='add')


def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match='got 3 stage maps, built for 4'):
        neck_of(HALVING[:4])(maps_of(HALVING[:3]))


def test_the_fusion_module_is_configurable():
    neck = neck_of(HALVING[:4], kfm=dict(eps=0.5))
    assert {branch.kfm.eps for branch in neck.branches} == {0.5}


def test_branches_share_no_weights():
    neck = neck_of(HALVING[:4])
    names = [name for name, _ in neck.named_parameters(remove_duplicate=False)]
    assert len({id(p) for p in neck.parameters()}) == len(names)


def parameters(neck):
    return sum(parameter.numel() for parameter in neck.parameters())


def bottleneck(c_in, c_out):
    width = c_out // 4
    return c_in * width + 2 * width + 9 * width**2 + 2 * width + width * c_out + 2 * c_out


def test_shared_modules_are_there_once():
    shapes = [(8, 8, 8), (16, 4, 4), (32, 2, 2), (64, 1, 1)]
    own, shared = (neck_of(shapes, fuse='none', share_modules=s) for s in (False, True))
    first, second, third = (branch.blocks for branch in shared.branches)
    assert first[1] is second[0] is third[0] and first[0] is not first[1]
    # Stage 4 is taken the place of three times, stage 3 once.
    assert parameters(own) - parameters(shared) == 2 * bottleneck(32, 64)
    assert shared.state_dict().keys() == own.state_dict().keys()
    copy = neck_of(shapes, fuse='none', share_modules=True)
    copy.load_state_dict(shared.state_dict())
    maps = maps_of(shapes)
    for a, b in zip(copy(maps), shared(maps), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('module', ['bottleneck', 'sepconv'])
def test_shared_modules_get_the_gradient_of_every_branch(module):
    shapes = HALVING[:4]
    neck, maps = neck_of(shapes, share_modules=True, module=module).eval(), maps_of(shapes)
    weight = neck.branches[2].blocks[0].layers[0].weight
    features = neck(maps)[:3]
    parts = [torch.autograd.grad(f.sum(), weight, retain_graph=True)[0] for f in features]
    (whole,) = torch.autograd.grad(sum(f.sum() for f in features), weight)
    torch.testing.assert_close(whole, sum(parts))
    assert all(part.abs().sum() > 0 for part in parts)


def test_equal_weights_give_the_same_features_shared_or_not():
    shapes, maps = HALVING[:4], maps_of(HALVING[:4])
    shared = neck_of(shapes, share_modules=True).eval()
    own = neck_of(shapes).eval()
    own.load_state_dict(shared.state_dict())
    for a, b in zip(own(maps), shared(maps), strict=True):
        assert torch.equal(a, b)
    assert parameters(own) > parameters(shared)


def test_one_branch_shares_nothing():
    shapes = HALVING[:4]
    alone, shared = (neck_of(shapes, branches=[1], share_modules=s) for s in (False, True))
    assert parameters(alone) == parameters(shared)
