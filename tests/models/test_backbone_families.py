"""KFMSD on every line of the table of families in docs/backbones.md, the backbone alone changed."""

import re
import warnings
from pathlib import Path

import pytest
import torch

from mmkdfuse.registry import MODELS

DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'backbones.md'
ROWS = re.findall(r"^\| ([^|]+) \| `(type='mmpretrain\..*)` \|$", DOCUMENT.read_text(), re.M)
FAMILIES = {name: eval(f'dict({line})', {'dict': dict}) for name, line in ROWS}
LABELS = torch.tensor([0, 2])


def size_of(backbone):
    size = backbone.get('img_size', 32)
    return size if isinstance(size, int) else size[0]


def build(backbone, image_size, **neck):
    torch.manual_seed(0)
    cfg = dict(type='KFMSD', backbone=backbone, num_classes=3, image_size=image_size, neck=neck)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of mmpretrain and mmcv about themselves
        return MODELS.build(cfg)


def images_of(height, width=None):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width or height, generator=generator)


def train_a_step(model, images):
    """The loss of two images and the trainable parameters without gradient."""
    loss, _ = model.train().parse_losses(model(images, LABELS, mode='loss'))
    loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return loss, [name for name, parameter in trained.items() if parameter.grad is None]


def test_the_table_has_every_kind_of_network():
    assert len(FAMILIES) == len(ROWS) >= 40
    kinds = {backbone['type'].removeprefix('mmpretrain.') for backbone in FAMILIES.values()}
    assert {'ResNet', 'DenseNet', 'MobileNetV3', 'SwinTransformer', 'VisionTransformer'} < kinds
    assert 'TIMMBackbone' in kinds


@pytest.mark.parametrize('name', FAMILIES)
def test_family_trains_predicts_and_deploys(name):
    backbone = FAMILIES[name]
    size = size_of(backbone)
    model, images = build(backbone, size), images_of(size)
    stages = len(model.stage_shapes)
    assert stages >= 2
    assert [plan.stage for plan in model.neck.plans] == list(range(stages - 1))
    loss, missed = train_a_step(model, images)
    assert torch.isfinite(loss)
    assert missed == []
    with torch.no_grad():
        samples = model.eval()(images, mode='predict')
        deployed = model.deployed()(images, mode='tensor')
    scores = torch.stack([sample.branch_scores for sample in samples])
    assert scores.shape == (2, stages, 3)
    torch.testing.assert_close(scores[:, -1], deployed.softmax(dim=1))


@pytest.mark.parametrize('name', ['LeViT', 'TinyViT'])
def test_weights_that_are_cached_in_eval_mode_learn(name):
    """These two replace their attention biases by a copy in eval mode."""
    backbone = FAMILIES[name]
    model = build(backbone, size_of(backbone))
    assert not any('frozen' in line for line in model.describe())
    train_a_step(model, images_of(size_of(backbone)))
    biases = [p for key, p in model.named_parameters() if key.endswith('attention_biases')]
    assert all(p.grad is not None for p in biases)
    # A stage of one pixel attends to itself, whatever the bias.
    assert any(p.grad.abs().sum() > 0 for p in biases)


@pytest.mark.parametrize('name', ['ResNet', 'MobileNetV2', 'ConvNeXt', 'Swin', 'DaViT'])
def test_images_need_not_be_square(name):
    backbone = {**FAMILIES[name]}
    height, width = (32, 56)
    if 'img_size' in backbone:
        backbone['img_size'] = (height, width)
    model = build(backbone, (height, width))
    assert all(shape[1] < shape[2] for shape in model.stage_shapes[:2])
    loss, missed = train_a_step(model, images_of(height, width))
    assert torch.isfinite(loss) and missed == []


@pytest.mark.parametrize(('name', 'size'), [('DenseNet', 32), ('MobileNetV3', 16), ('ResNet', 16)])
def test_stages_of_one_pixel_are_not_fused(name, size):
    with pytest.warns(UserWarning) as caught:
        torch.manual_seed(0)
        model = MODELS.build(
            dict(type='KFMSD', backbone=FAMILIES[name], num_classes=3, image_size=size)
        )
    messages = [str(warning.message) for warning in caught]
    assert sum('are not fused' in message for message in messages) == 1
    loss, missed = train_a_step(model, images_of(size))
    assert torch.isfinite(loss) and missed == []


def test_options_of_the_branches_on_five_stages():
    model = build(FAMILIES['MobileNetV3'], 64, branches=2, fuse=['none', 'none'], width=4)
    assert [plan.stage for plan in model.neck.plans] == [2, 3]
    model = build(FAMILIES['MobileNetV3'], 64, share_modules=True, module='sepconv')
    loss, missed = train_a_step(model, images_of(64))
    assert torch.isfinite(loss) and missed == []


@pytest.mark.parametrize('name', ['ResNet', 'RegNet', 'RepVGG', 'VAN'])
def test_the_default_outputs_are_one_map_which_is_refused_with_what_to_set(name):
    backbone = {key: value for key, value in FAMILIES[name].items() if key != 'out_indices'}
    with pytest.raises(ValueError, match='at least two stages; .*out_indices'):
        build(backbone, 32)
