"""What all distillers share: terms, weights, teachers outside, bad arguments."""

import numpy as np
import pytest
import torch
from tiny_networks import OTHER, STUDENT, TEACHER, K

from mmkdfuse.models import Classifier
from mmkdfuse.models.teachers.teacher import Teacher, attach

VIT = dict(type='mmpretrain.VisionTransformer')
FOREIGN = dict(type='mmpretrain.ImageClassifier', backbone=VIT)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(teacher, student, tau):
    """Mean over the batch of KL(softmax(teacher / tau) || softmax(student / tau))."""
    p, q = log_softmax(teacher / tau), log_softmax(student / tau)
    return (np.exp(p) * (p - q)).sum(axis=1).mean()


def logits_of(*networks, images):
    with torch.no_grad():
        return [network(images).double().numpy() for network in networks]


@pytest.mark.parametrize('teacher', [TEACHER, [TEACHER, OTHER]])
@pytest.mark.parametrize(('ce', 'kd', 'tau'), [(0.1, 0.9, 4.0), (1.0, 1.0, 2.0), (0.0, 3.0, 1.0)])
def test_kd_is_the_formula_on_the_mean_of_the_teachers(build, batch, teacher, ce, kd, tau):
    model = build('KD', teacher=teacher, ce_weight=ce, kd_weight=kd, tau=tau).eval()
    student, *teachers = logits_of(
        model, *(each.network for each in model.teachers), images=batch.images
    )
    terms = model(batch.images, batch.labels, mode='loss')
    expected = kd * tau**2 * divergence(np.mean(teachers, axis=0), student, tau)
    assert terms['loss_kd'].item() == pytest.approx(expected, rel=1e-3)
    assert set(terms) == ({'loss_ce', 'loss_kd'} if ce else {'loss_kd'})
    if ce:
        expected = -ce * log_softmax(student)[range(4), batch.labels].mean()
        assert terms['loss_ce'].item() == pytest.approx(expected, rel=1e-5)


def test_defaults_are_those_of_the_benchmarks(build):
    kd, dkd, fitnet = (build(method) for method in ('KD', 'DKD', 'FitNet'))
    assert (kd.ce_weight, kd.kd_weight) == (0.1, 0.9)
    assert (dkd.kd_weight, dkd.alpha, dkd.beta) == (0.0, 1.0, 8.0)
    assert (fitnet.hint_weight, fitnet.stage, fitnet.kd_weight) == (100.0, 2, 0.0)
    weights = {name: loss.weight for name, loss in kd.losses.items()}
    assert weights == {'ClassificationLoss': 0.1, 'KDLoss': 0.9}
    assert kd.losses['KDLoss'].tau == 4.0
    weights = {name: loss.weight for name, loss in dkd.losses.items()}
    assert weights == {'ClassificationLoss': 1.0, 'DKDLoss': 1.0}
    assert (dkd.losses['DKDLoss'].tau, dkd.losses['DKDLoss'].warmup_epochs) == (4.0, 20)
    weights = {name: loss.weight for name, loss in fitnet.losses.items()}
    assert weights == {'ClassificationLoss': 1.0, 'HintLoss': 100.0}


def test_soft_labels_of_mixed_images_are_taken(build, batch):
    model = build('KD').eval()
    hard = model(batch.images, batch.labels, mode='loss')['loss_ce']
    soft = torch.nn.functional.one_hot(batch.labels, K).float()
    torch.testing.assert_close(model(batch.images, soft, mode='loss')['loss_ce'], hard)


def test_weights_of_teachers_are_loaded_when_training_starts(build, batch, checkpoint):
    spec = checkpoint(TEACHER)
    model = build('KD', teacher=spec)
    trained = Classifier(TEACHER, K, 32)
    trained.load_state_dict(torch.load(spec['checkpoint'], weights_only=True)['state_dict'])
    expected = trained.eval()(batch.images)
    assert not torch.allclose(model.teachers[0](batch.images).logits, expected)
    model.init_weights()
    torch.testing.assert_close(model.teachers[0](batch.images).logits, expected)


def test_teachers_follow_the_model_to_its_dtype(build):
    model = build('KD').double()
    assert {p.dtype for p in model.teachers[0].parameters()} == {torch.float64}


def test_the_plan_names_the_teacher(build):
    lines = build('KD', teacher=dict(**TEACHER, checkpoint='t.pth')).describe()
    assert lines[-1] == 'teacher resnet8x4: last map 32x8x8, from t.pth'


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(ce_weight=-1), 'ce_weight=-1 and kd_weight=0.9 must be >= 0'),
        (dict(kd_weight=-1), 'kd_weight=-1 must be >= 0'),
        (dict(tau=0), 'tau=0 must be positive'),
        (dict(teacher=[]), r'teacher=\[\] must name at least one network'),
        (dict(teacher='resnet8x5'), "'resnet8x5' is not a known network"),
        (
            dict(student=dict(FOREIGN, train_cfg=VIT)),
            'student.train_cfg=.* would be ignored, expected it as `train_cfg` of KD',
        ),
        (
            dict(student=dict(type='mmpretrain.TimmClassifier', backbone=STUDENT)),
            'is a TimmClassifier, expected a network, a backbone, or the config of a classifier',
        ),
        (dict(student=dict(type='Unknown', backbone=STUDENT)), 'is a Unknown, expected a network'),
        (
            dict(student=dict(**STUDENT, checkpoint='s.pth')),
            "student.checkpoint='s.pth' is not read",
        ),
    ],
)
def test_refused_arguments_are_named(build, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        build('KD', **changes)


KFMSD = dict(type='KFMSD', backbone=dict(arch='resnet18', base_channels=4, stem_channels=4))


def test_a_student_with_a_teacher_of_its_own_is_refused(build):
    student = dict(KFMSD, teacher=TEACHER, losses=[dict(type='KDLoss')])
    with pytest.raises(ValueError, match='the student, a KFMSD, has a teacher of its own'):
        build('Distiller', student=student, kd_weight=1.0)


def test_a_weight_of_the_task_loss_that_would_be_ignored_is_refused(build):
    with pytest.raises(ValueError, match='ce_weight=0.5 would be ignored, because the student, a'):
        build('Distiller', student=KFMSD, kd_weight=1.0, ce_weight=0.5)
    with pytest.raises(ValueError, match='tau=2.0 would be ignored with kd_weight=0.0'):
        build('Distiller', losses=[dict(type='KDLoss')], tau=2.0)


def test_losses_of_the_student_stay(build, batch):
    """And are built once: adapters of BYOT are as many as without a teacher."""
    model = build('Distiller', student=dict(KFMSD, type='BYOT'), kd_weight=1.0)
    assert list(model.losses) == [
        *('ClassificationLoss', 'HeadDistillationLoss', 'BranchFeatureLoss', 'KDLoss'),
    ]
    assert len(model.losses['BranchFeatureLoss'].adapters) == 2
    own = dict(type='Classifier', backbone=STUDENT, losses=[dict(type='HintLoss', stage=1)])
    with pytest.raises(ValueError, match='HintLoss: teacher=None, expected'):
        build('Distiller', student=own, kd_weight=1.0)


@pytest.mark.parametrize('method', ['MFAKD', 'SimKD', 'KD', 'DKD', 'FitNet'])
@pytest.mark.parametrize('channels_last', [False, True])
def test_the_teachers_fast_copy_changes_neither_terms_nor_gradients(
    build, batch, checkpoint, method, channels_last
):
    preprocessor = dict(type='BatchPreprocessor', channels_last=channels_last)
    images = batch.images
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    spec = checkpoint(TEACHER)
    model = build(method, teacher=spec, data_preprocessor=preprocessor)
    model.init_weights()
    model.eval()  # batch-norm statistics stay
    fast, plain = model.teachers[0], Teacher(spec, K, 32)
    plain.load_state_dict(fast.state_dict())
    assert plain.backbone is plain.network.backbone and fast.backbone is not fast.network.backbone
    found = []
    for teacher in (plain, fast):
        attach(model, [teacher])
        model.zero_grad()
        terms = model(images, batch.labels, mode='loss')
        sum(terms.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        found.append((terms, torch.cat([gradient.flatten() for gradient in gradients])))
    (expected_terms, expected), (terms, gradients) = found
    torch.testing.assert_close(terms, expected_terms, rtol=1e-4, atol=1e-6)
    assert (gradients - expected).norm() < 1e-3 * expected.norm()
