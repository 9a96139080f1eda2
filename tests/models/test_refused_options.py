"""Options that another one makes meaningless, or that a class sets itself, are refused by name."""

import re

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmkdfuse.models import Classifier, Distiller
from mmkdfuse.registry import MODELS

K, SIDE = 5, 16
NETWORK = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
TEACHER = dict(arch='resnet8x4', base_channels=8, stem_channels=4)
LINEAR = dict(type='mmpretrain.LinearClsHead')
FOREIGN = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='mmpretrain.GeneralizedMeanPooling'),
    head=dict(
        type='mmpretrain.StackedLinearClsHead', num_classes=K, in_channels=32, mid_channels=[7]
    ),
)
MIXUP = dict(augments=dict(type='Mixup'))
CONSTANT = dict(type='Constant', layer='Linear', val=0.5, bias=0.25)
TASK = dict(type='ClassificationLoss')


def plain(**options):
    return dict(dict(type='Classifier', backbone=NETWORK), **options)


def kfmsd(**options):
    return dict(type='KFMSD', backbone=NETWORK, **options)


def byot(**options):
    return dict(type='BYOT', backbone=NETWORK, **options)


def fkd(**options):
    return dict(type='FKD', backbone=NETWORK, **options)


def kd(**options):
    return dict(dict(type='KD', student=NETWORK, teacher=TEACHER), **options)


def mfakd(**options):
    return dict(dict(type='MFAKD', student=NETWORK, teacher=TEACHER), **options)


def branched(*losses):
    return dict(type='BranchedClassifier', backbone=NETWORK, losses=losses)


CASES = [
    # What a class sets itself.
    (plain(head=dict(LINEAR, num_classes=7)), 'head.num_classes=7 would be ignored'),
    (plain(head=dict(LINEAR, in_channels=7)), 'head.in_channels=7 would be ignored'),
    (kfmsd(neck=dict(stage_shapes=[])), 'neck.stage_shapes=[] would be ignored'),
    (kfmsd(mutual_loss=dict(weight=2)), 'KFMSD: mutual_loss.weight=2 would be ignored'),
    (kfmsd(feature_loss=dict(weight=2)), 'because it comes from delta, expected 0.03'),
    (byot(feature_loss=dict(weight=2)), 'BYOT: feature_loss.weight=2 would be ignored'),
    (byot(feature_loss=dict(detach=None)), 'BYOT: feature_loss.detach=None would be ignored'),
    (byot(feature_loss=dict(adapters=False)), 'BYOT: feature_loss.adapters=False would be'),
    (byot(feature_loss=dict(exempt_deepest=False)), 'feature_loss.exempt_deepest=False would'),
    (fkd(feature_loss=dict(weight=2)), 'FKD: feature_loss.weight=2 would be ignored'),
    (fkd(feature_loss=dict(target='main')), "FKD: feature_loss.target='main' would be ignored"),
    (fkd(feature_loss=dict(detach='branch')), "FKD: feature_loss.detach='branch' would be"),
    (mfakd(connector=dict(in_channels=3)), 'connector.in_channels=3 would be ignored'),
    (mfakd(connector=dict(out_channels=3)), 'connector.out_channels=3 would be ignored'),
    (mfakd(connector=dict(scale=3)), 'connector.scale=3 would be ignored'),
    # What another option rules out.
    (plain(pretrained='a.pth', init_cfg=CONSTANT), "would be ignored beside pretrained='a.pth'"),
    (
        plain(train_cfg=MIXUP, data_preprocessor=dict(batch_augments=MIXUP)),
        'would be ignored beside a data_preprocessor that has batch_augments=',
    ),
    (
        plain(train_cfg=MIXUP, data_preprocessor=nn.Identity()),
        'would be ignored beside a data_preprocessor that is built already',
    ),
    (kfmsd(neck=dict(module='sepconv', width=3)), "width=3 with module='sepconv'"),
    (kfmsd(neck=dict(width=0)), 'KFMNeck: width=0'),
    (kfmsd(neck=dict(fuse='none', kfm=dict(eps=1))), "kfm={'eps': 1} would be ignored with fuse"),
    (kfmsd(branch_classes=0), 'branch_classes=0 must be a positive integer'),
    (kfmsd(branch_classes=20), 'leave out branch_classes or this loss'),
    (
        branched(dict(TASK, heads='branch1', name='loss_x')),
        "name='loss_x' would be ignored for a head that does not learn",
    ),
    (
        branched(dict(TASK, heads='main', head_weights=dict(branch1=2))),
        "head_weights={'branch1': 2} would be ignored for a head that does not learn",
    ),
    (
        branched(dict(type='BranchFeatureLoss', adapters=True)),
        "adapters=True would never be trained with detach='branch'",
    ),
    (
        branched(dict(type='PeerKLLoss', init_cfg=CONSTANT)),
        'has nothing to initialise, because this loss has no weights',
    ),
    (kd(losses=[TASK]), 'ce_weight=0.1 would be ignored beside the ClassificationLoss'),
    (kd(student=kfmsd()), 'ce_weight=0.1 would be ignored, because the student, a KFMSD'),
    # What the blocks of a network lack.
    (plain(backbone=dict(arch='resnet18', style='caffe')), "'resnet18': style='caffe' would be"),
    (plain(backbone=dict(arch='resnet34_in', expansion=2)), "'resnet34_in': expansion=2 would"),
    (plain(backbone=dict(NETWORK, style='caffe')), "ThreeStageResNet: style='caffe' would be"),
    # What the model around a student says.
    (kd(student=plain(num_classes=7)), 'student.num_classes=7 would be ignored'),
    (kd(student=plain(head=dict(LINEAR, num_classes=7))), 'student.num_classes=7 would be ig'),
    (kd(student=plain(image_size=32)), 'student.image_size=32 would be ignored'),
    (kd(student=plain(train_cfg=MIXUP)), 'KD: student.train_cfg={'),
    (kd(student=plain(data_preprocessor=dict(mean=1))), 'KD: student.data_preprocessor={'),
    (kd(student=kfmsd(verify_teacher=False)), 'KD: student.verify_teacher=False would be ign'),
    (mfakd(student=plain(train_cfg=MIXUP)), 'MFAKD: student.train_cfg={'),
    (mfakd(student=plain(num_classes=7)), 'student.num_classes=7 would be ignored'),
    (
        kd(student=plain(init_cfg=CONSTANT), init_cfg=CONSTANT),
        "and the student's, {'type': 'Constant'",
    ),
    (
        kd(student=plain(views=nn.Identity()), views=nn.Identity()),
        "and the student's own, expected one of them",
    ),
    (
        kd(student=dict(FOREIGN, pretrained='a.pth')),
        "student='mmpretrain.ResNet_CIFAR' is a ImageClassifier with pretrained",
    ),
    (kd(student=dict(FOREIGN, train_cfg=MIXUP)), 'KD: student.train_cfg={'),
    (
        kd(student=dict(FOREIGN, head=dict(FOREIGN['head'], in_channels=64))),
        'head.in_channels=64 would be ignored',
    ),
]


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(('config', 'sentence'), CASES, ids=[each for _, each in CASES])
def test_it_is_refused_in_one_sentence(config, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        MODELS.build(dict(config, num_classes=K, image_size=SIDE))
    assert len(re.split(r'[.!?]\s+(?=[A-Z])', str(caught.value))) == 1


def test_values_that_a_class_would_set_anyway_may_be_written_out():
    head = dict(LINEAR, num_classes=K, in_channels=16)
    MODELS.build(dict(plain(head=head), num_classes=K, image_size=SIDE))
    feature = dict(weight=0.03, detach='main', adapters=True)
    MODELS.build(dict(byot(feature_loss=feature), num_classes=K, image_size=SIDE))
    student = plain(num_classes=K, image_size=(SIDE, SIDE))
    MODELS.build(dict(kd(student=student), num_classes=K, image_size=SIDE))


def test_a_foreign_student_is_the_classifier_with_the_same_parts():
    images = torch.randn(4, 3, SIDE, SIDE)
    labels = torch.tensor([0, 3, 4, 3])
    models = []
    parts = dict(backbone=FOREIGN['backbone'], neck=FOREIGN['neck'], head=FOREIGN['head'])
    for student in (FOREIGN, dict(type='mmkdfuse.Classifier', **parts)):
        torch.manual_seed(0)
        models.append(MODELS.build(dict(kd(student=student), num_classes=K, image_size=SIDE)))
    torch.manual_seed(0)
    models.append(Classifier(**parts, num_classes=K, image_size=SIDE))
    foreign, ours, alone = (model.eval() for model in models)
    assert list(foreign.state_dict()) == list(ours.state_dict()) == list(alone.state_dict())
    ours.load_state_dict(foreign.state_dict())
    alone.load_state_dict(foreign.state_dict())
    assert torch.equal(foreign(images), ours(images))
    assert torch.equal(foreign(images), alone(images))
    ours.teachers[0].network.load_state_dict(foreign.teachers[0].network.state_dict())
    assert foreign(images, labels, mode='loss') == ours(images, labels, mode='loss')
    plain_network = MODELS.build(FOREIGN).eval()
    plain_network.load_state_dict(foreign.state_dict())
    assert torch.equal(plain_network(images), foreign(images))


def test_a_students_initialisation_losses_and_views_are_kept():
    class Mirrored(nn.Module):
        def forward(self, images):
            return torch.cat([images, images.flip(3)])

    losses = [dict(type='ClassificationLoss', weight=2.0)]
    student = plain(init_cfg=CONSTANT, losses=losses, views=Mirrored())
    config = kd(student=student, teacher=TEACHER, ce_weight=None)
    model = MODELS.build(dict(config, num_classes=K, image_size=SIDE))
    assert isinstance(model, Distiller)
    assert model.losses['ClassificationLoss'].weight == 2.0
    assert isinstance(model.views, Mirrored)
    model.teachers = ()  # without a file
    model.init_weights()
    assert (model.head.fc.weight == 0.5).all() and (model.head.fc.bias == 0.25).all()


def test_warm_up_reaches_single_heads_too():
    loss = dict(TASK, weight=0.0, head_weights=dict(main=1.0), heads='main', warmup_epochs=4)
    model = MODELS.build(dict(branched(loss), num_classes=K, image_size=SIDE)).eval()
    images, labels = torch.randn(2, 3, SIDE, SIDE), torch.tensor([0, 1])
    found = []
    for epoch in (0, 3):
        model.set_progress(epoch, 10)
        found.append(model(images, labels, mode='loss')['loss_ce_main'].item())
    assert found[1] == pytest.approx(4 * found[0])


def test_initialisation_of_a_neck_takes_the_place_of_its_branches_own():
    cfg = dict(type='Constant', layer='Conv2d', val=0.5)
    model = MODELS.build(dict(kfmsd(neck=dict(init_cfg=cfg)), num_classes=K, image_size=SIDE))
    model.init_weights()
    convs = [part for part in model.neck.modules() if isinstance(part, nn.Conv2d)]
    assert convs and all((conv.weight == 0.5).all() for conv in convs)
    assert not (model.backbone.conv1.weight == 0.5).any()
