"""A teacher is trained, a student distilled from it, tested without the teacher, and resumed."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmkdfuse
from mmkdfuse.checkpoint import load_file
from mmkdfuse.engine.preflight import ConfigError, check_file, preflight

ROOT = Path(__file__).resolve().parents[2]
METHODS = ROOT / 'configs' / '_base_' / 'methods'
QUICKSTART = ROOT / 'configs' / 'quickstart' / 'baseline_digits.py'
STUDENT = dict(arch='vgg8', base_channels=4)
TEACHER = dict(arch='vgg8', base_channels=8)


@pytest.fixture(scope='module')
def options(tiny_options):
    """Without the keys of the network, and with a log."""
    kept = {key: value for key, value in tiny_options.items() if not key.startswith('model.')}
    return {**kept, 'log_level': 'INFO'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('distillation')


@pytest.fixture(scope='module')
def trained_teacher(folder, options):
    """Metrics of a teacher after two epochs on the digits, and its checkpoint."""
    path = folder / 'teacher.py'
    network = dict(TEACHER, _delete_=True)
    path.write_text(f'_base_ = {str(QUICKSTART)!r}\nmodel = dict(backbone={network})\n')
    changes = {
        **options,
        'train_dataloader.dataset.subset': 512,
        'optim_wrapper.optimizer.lr': 0.05,
        'param_scheduler': None,
    }
    metrics = mmkdfuse.train(
        path, work_dir=folder / 'teacher', cfg_options=changes, preflight=False
    )
    return metrics, folder / 'teacher' / 'epoch_2.pth'


@pytest.fixture(scope='module')
def teacher(trained_teacher):
    return trained_teacher[1]


@pytest.fixture(scope='module')
def config(folder, teacher):
    """Config of MFAKD, with the teacher's file."""
    base = ROOT / 'configs' / '_base_'
    files = [base / 'datasets' / 'digits.py', base / 'schedules' / 'quickstart.py']
    path = folder / 'mfakd.py'
    path.write_text(
        f'_base_ = {[str(file) for file in (*files, METHODS / "mfakd.py")]}\n'
        'model = dict(num_classes={{_base_.num_classes}}, image_size={{_base_.image_size}}, '
        f'student={STUDENT}, teacher={dict(TEACHER, checkpoint=str(teacher))})\n'
    )
    return path


@pytest.fixture(scope='module')
def distilled(folder, config, options):
    """Metrics of two epochs of MFAKD, and where they are."""
    work_dir = folder / 'mfakd'
    return mmkdfuse.train(config, work_dir=work_dir, cfg_options=options), work_dir


def test_the_teacher_is_verified_first_and_terms_are_logged(distilled, trained_teacher):
    metrics, work_dir = distilled
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    (log,) = work_dir.glob('*/*.log')
    text = log.read_text()
    # What its own training validated.
    verified = text.index(f'teacher vgg8: {trained_teacher[0]["accuracy/top1"]:.2f} % (')
    assert verified < text.index('Epoch(val)')
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    logged = set().union(*(json.loads(line) for line in scalars.read_text().splitlines()))
    assert {'loss_align', 'loss', 'accuracy/top1'} <= logged
    assert 'loss_ce' not in logged


def test_the_checkpoint_holds_the_deployed_path(distilled, teacher):
    state = load_file(distilled[1] / 'epoch_2.pth')['state_dict']
    assert {name.split('.')[0] for name in state} == {'backbone', 'neck', 'head'}
    trained = load_file(teacher)['state_dict']
    for name in ('head.fc.weight', 'head.fc.bias'):
        assert torch.equal(state[name], trained[name])


def test_testing_needs_no_teacher_file(distilled, config, options, tmp_path):
    metrics, work_dir = distilled
    changes = {**options, 'model.teacher.checkpoint': str(tmp_path / 'gone.pth')}
    found = mmkdfuse.test(config, work_dir / 'epoch_2.pth', work_dir=tmp_path, cfg_options=changes)
    assert found == metrics


def test_a_resumed_run_ends_with_the_same_weights(distilled, config, options, tmp_path):
    metrics, work_dir = distilled
    arguments = dict(work_dir=tmp_path, preflight=False, cfg_options=options)
    found = mmkdfuse.train(config, resume=str(work_dir / 'epoch_1.pth'), **arguments)
    assert found == metrics
    states = [load_file(path / 'epoch_2.pth')['state_dict'] for path in (tmp_path, work_dir)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    (log,) = tmp_path.glob('*/*.log')
    assert 'teacher vgg8: ' not in log.read_text()


def test_a_resume_with_another_teacher_is_refused(distilled, config, options, teacher, tmp_path):
    state = load_file(teacher)['state_dict']
    state['head.fc.bias'] += 1
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'other.pth')
    changes = {**options, 'model.teacher.checkpoint': str(tmp_path / 'other.pth')}
    with pytest.raises(RuntimeError, match='has another classifier than the weights'):
        mmkdfuse.train(
            config,
            work_dir=tmp_path,
            resume=str(distilled[1] / 'epoch_1.pth'),
            preflight=False,
            cfg_options=changes,
        )


def test_training_can_start_from_distilled_weights(distilled, config, options, tmp_path):
    """The same model, complete; other files are refused with their keys."""
    start = {'load_from': str(distilled[1] / 'epoch_2.pth'), 'train_cfg.max_epochs': 1}
    arguments = dict(work_dir=tmp_path, preflight=False)
    mmkdfuse.train(config, cfg_options={**options, **start}, **arguments)
    lacking = load_file(distilled[1] / 'epoch_2.pth')['state_dict']
    lacking = {name: value for name, value in lacking.items() if not name.startswith('neck')}
    torch.save(lacking, tmp_path / 'student.pth')
    start['load_from'] = str(tmp_path / 'student.pth')
    with pytest.raises(RuntimeError, match=r'load_from=.* does not fit MFAKD; missing: neck'):
        mmkdfuse.train(config, cfg_options={**options, **start}, **arguments)


def test_an_untrained_teacher_stops_the_run(config, options, tmp_path):
    path = tmp_path / 'untrained.pth'
    torch.manual_seed(0)
    torch.save(mmkdfuse.models.Classifier(TEACHER, 10, 32).state_dict(), path)
    changes = {**options, 'model.teacher.checkpoint': str(path)}
    arguments = dict(work_dir=tmp_path, preflight=False)
    with pytest.raises(RuntimeError, match="teacher 'vgg8' from .* expected more than 20.00 %"):
        mmkdfuse.train(config, cfg_options=changes, **arguments)
    assert not list(tmp_path.glob('epoch_*.pth'))


def test_a_missing_teacher_stops_before_data_are_read_but_can_be_checked(config, tmp_path, capsys):
    changes = {
        'model.teacher.checkpoint': 'work_dirs/teacher/vgg8_digits/epoch_240.pth',
        'train_dataloader.dataset._delete_': True,
        'train_dataloader.dataset.type': 'ImageFolder',
        'train_dataloader.dataset.data_root': str(tmp_path / 'none'),
    }
    with pytest.raises(ConfigError) as error:
        mmkdfuse.train(config, work_dir=tmp_path, cfg_options=changes)
    (mistake,) = error.value.mistakes
    assert mistake.startswith('`model.teacher`: teacher.checkpoint=')
    assert 'python tools/train.py configs/teacher/vgg8_digits.py' in mistake
    with pytest.raises(FileNotFoundError, match='does not exist: train one'):
        mmkdfuse.train(config, work_dir=tmp_path, preflight=False, cfg_options={
            'model.teacher.checkpoint': 'none.pth', 'log_level': 'WARNING'
        })  # fmt: skip
    assert check_file(str(config), {'model.teacher.checkpoint': None}) == 0
    output = capsys.readouterr().out
    assert "but training would stop: teacher='vgg8' has no checkpoint: train one" in output


def test_a_teacher_file_that_does_not_fit_is_found_by_the_check(config, tmp_path):
    path = tmp_path / 'seven.pth'
    torch.save(mmkdfuse.models.Classifier(TEACHER, 7, 32).state_dict(), path)
    cfg = Config.fromfile(config)
    cfg.model.teacher.checkpoint = str(path)
    with pytest.raises(ConfigError) as error:
        preflight(cfg, data=False)
    (mistake,) = error.value.mistakes
    assert 'misshapen: head.fc.weight (7, 64) instead of (10, 64)' in mistake
