"""Normalised distances: the unit, its measurement, and what they leave as it was."""

import numpy as np
import pytest
import torch

from mmkdfuse.models import MFAKD, FitNet, SimKD
from mmkdfuse.models.losses.target_variance import TargetVariance, channel_variance
from mmkdfuse.registry import MODELS

STUDENT = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
TEACHER = dict(arch='resnet8x4', base_channels=8, stem_channels=8)
IMAGES = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4)


def build(method, **changes):
    torch.manual_seed(0)
    cfg = dict(type=method, student=STUDENT, teacher=TEACHER, num_classes=5, image_size=32)
    return MODELS.build({**cfg, **changes}).eval()


def measured(method, **changes):
    model = build(method, normalize='variance', **changes)
    assert model.needs_observation
    for images in IMAGES.split(4):
        model.observe(images)
    model.conclude()
    assert not model.needs_observation
    return model


def variance_of(teacher, stage):
    """Literal: numpy over all images at once, per channel, then their mean."""
    with torch.no_grad():
        maps = tuple(teacher.network.backbone(IMAGES))[stage].double().numpy()
    return np.mean([np.var(maps[:, channel]) for channel in range(maps.shape[1])])


@pytest.mark.parametrize(
    ('method', 'stage', 'term'),
    [('MFAKD', -1, 'loss_align'), ('SimKD', -1, 'loss_align'), ('FitNet', 0, 'loss_hint')],
)
def test_the_unit_is_the_variance_over_all_images_seen(method, stage, term):
    changes = dict(stage=1) if method == 'FitNet' else {}
    printed, ours = build(method, **changes), measured(method, **changes)
    expected = variance_of(ours.teachers[0], stage)
    found = printed(IMAGES[:4], LABELS, mode='loss')[term]
    unit = found / ours(IMAGES[:4], LABELS, mode='loss')[term]
    assert unit.item() == pytest.approx(expected, rel=1e-4)


def test_the_root_mean_square_has_the_root_as_its_unit():
    printed, ours = build('MFAKD', loss='rmse'), measured('MFAKD', loss='rmse')
    unit = printed(IMAGES[:4], LABELS, mode='loss')['loss_align']
    unit = unit / ours(IMAGES[:4], LABELS, mode='loss')['loss_align']
    assert unit.item() == pytest.approx(variance_of(ours.teachers[0], -1) ** 0.5, rel=1e-4)


def test_every_teacher_has_its_own_unit():
    ours = measured('MFAKD', teacher=[TEACHER, dict(TEACHER, base_channels=12)])
    units = [each.variance.item() for each in ours.losses['AlignmentLoss'].variances]
    expected = [variance_of(teacher, -1) for teacher in ours.teachers]
    assert units == pytest.approx(expected, rel=1e-4) and units[0] != units[1]


def test_it_is_saved_with_the_model_and_not_measured_again():
    ours, other = measured('MFAKD'), build('MFAKD', normalize='variance')
    other.load_state_dict(ours.state_dict(), strict=True)
    assert not other.needs_observation
    assert 'losses.AlignmentLoss.variances.0.variance' in ours.state_dict()
    assert not any('variance' in name for name in build('MFAKD').state_dict())


def test_the_unexplained_share_is_one_for_the_mean_of_the_target():
    loss = build('MFAKD').losses['AlignmentLoss']
    target = 3 + 2 * torch.randn(6, 5, 4, 4)
    mean = target.mean(dim=(0, 2, 3), keepdim=True).expand_as(target)
    loss.pairs = lambda step: iter([(mean, target)])
    assert loss.diagnose(None)['unexplained'].item() == pytest.approx(1, abs=1e-5)
    assert channel_variance(target).item() == pytest.approx(
        target.double().numpy().var(axis=(0, 2, 3)).mean(), rel=1e-5
    )


@pytest.mark.parametrize('method', [MFAKD, SimKD, FitNet])
def test_other_units_are_refused(method):
    with pytest.raises(ValueError, match="normalize='std' must be one of"):
        method(student=STUDENT, teacher=TEACHER, num_classes=5, image_size=32, normalize='std')


def test_a_constant_target_has_no_unit():
    unit = TargetVariance()
    unit.observe(torch.ones(2, 3, 4, 4))
    with pytest.raises(RuntimeError, match='has variance .* expected more than 0'):
        unit.conclude()


def test_labels_alone_have_no_unit():
    with pytest.raises(ValueError, match="normalize='variance' would be ignored with loss='ce'"):
        build('MFAKD', loss='ce', normalize='variance')
