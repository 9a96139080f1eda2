"""Weights of torchvision's and timm's networks give, in mmpretrain's, the logits that they gave."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models as torchvision
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams, RegNet

from mmkdfuse.checkpoint import load_strictly
from mmkdfuse.checkpoint_reader import load_file
from mmkdfuse.engine.pretrained import load_start_weights
from mmkdfuse.models import Classifier
from mmkdfuse.models.file_weights import weights_for
from mmkdfuse.models.reference_weights import convert_file
from mmkdfuse.models.teachers.teacher import Teacher
from mmkdfuse.registry import MODELS

K = 10
POOL = dict(type='mmpretrain.GlobalAveragePooling')
BN = dict(type='BN')


def linear(channels):
    return dict(type='mmpretrain.LinearClsHead', num_classes=K, in_channels=channels)


def tokens(channels, kind='VisionTransformerClsHead'):
    return dict(type=f'mmpretrain.{kind}', num_classes=K, in_channels=channels)


def stacked(channels, inner):
    return dict(
        type='mmpretrain.StackedLinearClsHead',
        num_classes=K,
        in_channels=channels,
        mid_channels=[inner],
        act_cfg=dict(type='HSwish'),
    )


def config(kind, head, neck=POOL, **backbone):
    backbone = dict(type=f'mmpretrain.{kind}', **backbone)
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)


resnet = partial(config, 'ResNet')
resnext = partial(config, 'ResNeXt', linear(2048), depth=50, groups=32, width_per_group=4)
mobilenet_v2 = partial(config, 'MobileNetV2', linear(1280))
mobilenet_v3 = partial(config, 'MobileNetV3')
efficientnet = partial(config, 'EfficientNet', linear(1280))
convnext = partial(config, 'ConvNeXt', neck=None)
regnet = partial(config, 'RegNet')
densenet = partial(config, 'DenseNet')
SMALL_VIT = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
SMALL_SWIN = dict(embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 3, 4])


def vgg(**changes):
    """mmpretrain's VGG holds its classifier; the inner layers are narrow, as in ``narrow``."""
    head = dict(type='mmpretrain.ClsHead')
    return config('VGG', head, None, depth=11, num_classes=K, **changes)


def narrow(classifier):
    for index, layer in {0: nn.Linear(25088, 8), 3: nn.Linear(8, 8), 6: nn.Linear(8, K)}.items():
        classifier[index] = layer


def torchvision_vgg(name):
    model = getattr(torchvision, name)(num_classes=K)
    narrow(model.classifier)
    return model


def torchvision_convnext():
    widths = [(16, 24, 1), (24, 32, 2), (32, 40, 2), (40, None, 1)]
    return torchvision.ConvNeXt([CNBlockConfig(*each) for each in widths], num_classes=K)


def torchvision_swin():
    return torchvision.SwinTransformer(
        [4, 4], 12, [2, 2, 2, 2], [1, 2, 3, 4], [7, 7], num_classes=K
    )


def torchvision_vit():
    return torchvision.VisionTransformer(64, 16, 3, 3, 48, 96, num_classes=K)


def torchvision_regnet():
    params = BlockParams.from_init_params(
        depth=16, w_0=56, w_a=35.73, w_m=2.28, group_width=16
    )  # of regnet_x_800mf
    return RegNet(params, num_classes=K)


def torchvision_densenet():
    return torchvision.DenseNet(4, (2, 3, 2, 2), 8, num_classes=K)


SMALL_CONVNEXT = dict(depths=[1, 2, 2, 1], channels=[16, 24, 32, 40])
SMALL_DENSENET = dict(growth_rate=4, depths=[2, 3, 2, 2], init_channels=8)
TORCHVISION = {
    'resnet18': (lambda: torchvision.resnet18(num_classes=K), resnet(linear(512), depth=18)),
    'resnet50': (lambda: torchvision.resnet50(num_classes=K), resnet(linear(2048), depth=50)),
    'wide_resnet50_2': (
        lambda: torchvision.wide_resnet50_2(num_classes=K),
        resnet(linear(2048), depth=50, base_channels=128, expansion=2),
    ),
    'resnext50_32x4d': (lambda: torchvision.resnext50_32x4d(num_classes=K), resnext()),
    'vgg11': (lambda: torchvision_vgg('vgg11'), vgg(), 224),
    'vgg11_bn': (lambda: torchvision_vgg('vgg11_bn'), vgg(norm_cfg=BN), 224),
    'mobilenet_v2': (lambda: torchvision.mobilenet_v2(num_classes=K), mobilenet_v2()),
    'mobilenet_v3_small': (
        lambda: torchvision.mobilenet_v3_small(num_classes=K),
        mobilenet_v3(stacked(576, 1024), arch='small'),
    ),
    'mobilenet_v3_large': (
        lambda: torchvision.mobilenet_v3_large(num_classes=K),
        mobilenet_v3(stacked(960, 1280), arch='large'),
    ),
    'efficientnet_b0': (
        lambda: torchvision.efficientnet_b0(num_classes=K),
        efficientnet(arch='b0', conv_cfg=None, norm_cfg=BN),
    ),
    'convnext': (torchvision_convnext, convnext(linear(40), arch=SMALL_CONVNEXT)),
    'swin': (torchvision_swin, config('SwinTransformer', linear(96), arch=SMALL_SWIN), 224),
    'vit': (
        torchvision_vit,
        config('VisionTransformer', tokens(48), None, arch=SMALL_VIT, img_size=64, patch_size=16),
    ),
    'regnet_x': (torchvision_regnet, regnet(linear(672), arch='regnetx_800mf')),
    'densenet': (torchvision_densenet, densenet(linear(17), arch=SMALL_DENSENET)),
}

DEIT = dict(arch='deit-tiny', img_size=64, patch_size=16)
TIMM = {
    'resnet18': (dict(), resnet(linear(512), depth=18)),
    'resnet50d': (dict(), config('ResNetV1d', linear(2048), depth=50)),
    'seresnet50': (dict(), config('SEResNet', linear(2048), depth=50)),
    'resnext50_32x4d': (dict(), resnext()),
    'vgg11': (dict(), vgg(), 224),
    'vgg11_bn': (dict(), vgg(norm_cfg=BN), 224),
    'mobilenetv2_100': (dict(), mobilenet_v2()),
    'mobilenetv3_small_100': (
        dict(),
        mobilenet_v3(stacked(576, 1024), arch='small', norm_cfg=BN),
    ),
    'mobilenetv3_large_100': (
        dict(),
        mobilenet_v3(stacked(960, 1280), arch='large', norm_cfg=BN),
    ),
    'efficientnet_b0': (dict(), efficientnet(arch='b0', conv_cfg=None, norm_cfg=BN)),
    'tf_efficientnet_b0': (dict(), efficientnet(arch='b0')),
    'convnext_atto': (
        dict(conv_mlp=False),
        convnext(linear(320), arch='atto'),
    ),
    'convnextv2_atto': (
        dict(),
        convnext(linear(320), arch='atto', layer_scale_init_value=0.0, use_grn=True),
    ),
    'swin_tiny_patch4_window7_224': (
        dict(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4)),
        config('SwinTransformer', linear(96), arch=SMALL_SWIN),
        224,
    ),
    'vit_tiny_patch16_224': (
        dict(img_size=64),
        config('VisionTransformer', tokens(192), None, **DEIT),
    ),
    'deit_tiny_patch16_224': (
        dict(img_size=64),
        config('VisionTransformer', tokens(192), None, **DEIT),
    ),
    'deit_tiny_distilled_patch16_224': (
        dict(img_size=64),
        config('DistilledVisionTransformer', tokens(192, 'DeiTClsHead'), None, **DEIT),
    ),
    'regnetx_004': (dict(), regnet(linear(384), arch='regnetx_400mf')),
    'densenet121': (
        dict(growth_rate=4, block_config=(2, 3, 2, 2)),
        densenet(linear(17), arch=SMALL_DENSENET),
    ),
}


@torch.no_grad()
def stirred(model):
    """Random weights, under which every one of them matters."""
    random = torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=random)
        if value.dim() in (2, 4):
            value.copy_(noise * 1.4 / value[0].numel() ** 0.5)
        elif key.endswith(('weight', 'running_var', 'gamma', 'layer_scale')):
            value.copy_(noise.abs() / 2 + 0.5)
        else:
            value.copy_(noise / 10)
    return model.eval()


def assert_equal_logits(theirs, ours, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs(images), ours.eval()(images)
    found = found[-1] if isinstance(found, (tuple, list)) else found
    scale = expected.abs().max()
    assert expected.std() > 0.05 * scale
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


def check(theirs, cfg, size=64):
    ours = MODELS.build(cfg)
    if hasattr(ours.backbone, 'classifier'):
        narrow(ours.backbone.classifier)
    load_strictly(ours, weights_for(ours, theirs.state_dict(), 'a.pth'), 'a.pth')
    assert_equal_logits(theirs, ours, size)


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision(name):
    build, *expected = TORCHVISION[name]
    check(stirred(build()), *expected)


@pytest.mark.parametrize('name', TIMM)
def test_timm(name):
    timm = pytest.importorskip('timm')
    options, *expected = TIMM[name]
    theirs = timm.create_model(name, num_classes=K, **options)
    if name.startswith('vgg'):
        theirs.pre_logits.fc1 = nn.Conv2d(512, 8, 7)
        theirs.pre_logits.fc2 = nn.Conv2d(8, 8, 1)
        theirs.head.fc = nn.Linear(8, K)
    check(stirred(theirs), *expected)


def test_convnext_of_convolutions_where_theirs_has_linear_layers():
    cfg = convnext(linear(40), arch=SMALL_CONVNEXT, linear_pw_conv=False)
    check(stirred(torchvision_convnext()), cfg)


@pytest.mark.parametrize('wrong', ['regnet_y', 'swin_v2'])
def test_networks_of_other_arithmetic_are_refused_by_name(wrong):
    theirs, cfg = {
        'regnet_y': (torchvision.regnet_y_400mf, regnet(linear(384), arch='regnetx_400mf')),
        'swin_v2': (
            torchvision.swin_v2_t,
            config('SwinTransformer', linear(768), arch='tiny'),
        ),
    }[wrong]
    ours = MODELS.build(cfg)
    with pytest.raises(RuntimeError, match=r'^a.pth does not fit .*; missing: .*docs/'):
        load_strictly(ours, weights_for(ours, theirs().state_dict(), 'a.pth'), 'a.pth')


# ---- Where files are read


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """File of torchvision's ResNet-18 as old versions wrote it, and the network."""
    theirs = stirred(torchvision.resnet18(num_classes=K))
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith('num_batches_tracked')}
    path = tmp_path_factory.mktemp('published') / 'resnet18.pth'
    torch.save(state, path)
    return path, theirs


def test_a_teacher_takes_a_published_file(published):
    path, theirs = published
    teacher = Teacher(dict(resnet(linear(512), depth=18), checkpoint=path), K, 64)
    teacher.load()
    assert_equal_logits(theirs, teacher.network, 64)


def test_a_teacher_takes_the_averaged_weights_of_a_file(tmp_path, published):
    _, theirs = published
    averaged = {f'module.{key}': value for key, value in theirs.state_dict().items()}
    zeros = {key: value * 0 for key, value in theirs.state_dict().items()}
    torch.save(dict(state_dict=zeros, state_dict_ema=averaged), tmp_path / 'a.pth')
    checkpoint = dict(file=str(tmp_path / 'a.pth'), key='state_dict_ema')
    teacher = Teacher(dict(resnet(linear(512), depth=18), checkpoint=checkpoint), K, 64)
    assert teacher.missing() is None
    teacher.load()
    assert_equal_logits(theirs, teacher.network, 64)


def test_training_starts_from_a_published_file(published):
    path, theirs = published
    backbone = dict(type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3))
    model = Classifier(backbone, K, image_size=64)
    assert load_start_weights(model, load_file(path), 'a.pth') == []
    assert_equal_logits(theirs, model, 64)
    other = Classifier(backbone, 7, image_size=64)
    (fact,) = load_start_weights(other, load_file(path), 'a.pth')
    assert 'are for 10 classes' in fact


@pytest.mark.parametrize('prefix', ['backbone', None])
def test_a_backbone_starts_from_a_published_file(published, prefix):
    path, theirs = published
    init_cfg = dict(type='Pretrained', checkpoint=dict(file=str(path)), prefix=prefix)
    backbone = dict(type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3), init_cfg=init_cfg)
    model = Classifier(backbone, K, image_size=64)
    model.init_weights()
    assert torch.equal(model.backbone.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


@pytest.mark.parametrize('prefix', ['backbone', None])
def test_a_backbone_starts_from_a_published_file_of_other_names(tmp_path, prefix):
    theirs = stirred(torchvision_densenet())
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix=prefix)
    backbone = dict(type='mmpretrain.DenseNet', arch=SMALL_DENSENET, init_cfg=init_cfg)
    model = Classifier(backbone, K, image_size=64)
    model.init_weights()
    found = model.backbone.stages[3].block[1].conv2.weight
    assert torch.equal(found, theirs.features.denseblock4.denselayer2.conv2.weight)


def test_the_converter_takes_the_config_of_a_classifier(tmp_path):
    theirs = stirred(torchvision_densenet())
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'in.pth')
    cfg = densenet(linear(17), arch=SMALL_DENSENET)
    (tmp_path / 'net.py').write_text(f'model = {cfg!r}')
    convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', str(tmp_path / 'net.py'))
    written = load_file(tmp_path / 'out.pth')
    assert written['meta']['num_classes'] == K
    ours = MODELS.build(cfg)
    ours.load_state_dict(written['state_dict'], strict=True)
    assert_equal_logits(theirs, ours, 64)
