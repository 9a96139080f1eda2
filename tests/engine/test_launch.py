"""The functions behind the tools: configs, processes, options, strict loading."""

import json
import pickle
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmkdfuse
from mmkdfuse.checkpoint import load_file
from mmkdfuse.datasets import Digits
from mmkdfuse.engine import launch
from mmkdfuse.engine.preflight import ConfigError
from mmkdfuse.models import KFMSD

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
QUICKSTART = CONFIGS / 'quickstart' / 'kfmsd_digits.py'


@pytest.fixture
def short(tiny_options):
    """One epoch of two steps, without preflight and validation."""
    options = {**tiny_options, 'train_cfg.max_epochs': 1, 'train_dataloader.dataset.subset': 32}
    return dict(config=QUICKSTART, preflight=False, validate=False, cfg_options=options)


@pytest.mark.parametrize(
    'config',
    [
        str(QUICKSTART),
        QUICKSTART,
        'quickstart/kfmsd_digits',
        'quickstart/kfmsd_digits.py',
        Config.fromfile(QUICKSTART),
    ],
    ids=['string', 'path', 'name', 'name.py', 'loaded'],
)
def test_a_config_by_path_name_or_loaded(config):
    assert launch.load_config(config).model.to_dict() == Config.fromfile(QUICKSTART).model.to_dict()


def test_an_unknown_config_is_named():
    with pytest.raises(FileNotFoundError, match="config='kfmsd/resnet81' is neither a file nor"):
        launch.load_config('kfmsd/resnet81')


def test_changes_as_values_and_as_dotted_keys():
    cfg = launch.load_config(
        QUICKSTART, {'model.gamma': 0.2}, model=dict(delta=0.5, gamma=0.1), log_level='ERROR'
    )
    assert (cfg.model.gamma, cfg.model.delta, cfg.log_level) == (0.2, 0.5, 'ERROR')
    assert cfg.model.type == 'KFMSD'


def test_neither_the_config_nor_the_changes_are_changed():
    base = Config.fromfile(QUICKSTART)
    text = base.pretty_text
    for _ in range(2):  # the second time with the same objects
        options = dict(_delete_=True, type='mmpretrain.RegNet', arch='regnetx_400mf')
        dotted, nested = {'model.backbone': options}, dict(backbone=options)
        for cfg in (
            launch.load_config(base, dotted),
            launch.load_config(base, model=nested),
            launch.load_config(base, model=nested),
        ):
            assert cfg.model.backbone == dict(type='mmpretrain.RegNet', arch='regnetx_400mf')
    assert options['_delete_'] is True
    assert base.pretty_text == text


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_a_gpu_are_refused_without_one(launcher, short):
    if torch.cuda.is_available():
        return
    with pytest.raises(ValueError, match=f"launcher='{launcher}' needs GPUs; .*'pytorch'"):
        mmkdfuse.train(**short, launcher=launcher)


def test_an_unknown_launcher_is_refused(short):
    with pytest.raises(ValueError, match="launcher='torchrun' must be one of .*'pytorch'"):
        mmkdfuse.train(**short, launcher='torchrun')


def test_torchrun_is_asked_for(short, monkeypatch):
    if torch.cuda.is_available():
        return
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(ValueError, match='start with torchrun or tools/dist_train.sh'):
        mmkdfuse.train(**short, launcher='pytorch')


@pytest.fixture
def runners(monkeypatch):
    """Every Runner that is built."""
    built, build = [], launch._build_runner
    monkeypatch.setattr(launch, '_build_runner', lambda cfg: built.append(build(cfg)) or built[-1])
    return built


def test_a_process_group_is_started_and_ended(tmp_path, short, runners, monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        monkeypatch.setenv('MASTER_PORT', str(free.getsockname()[1]))
    for name, value in dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1').items():
        monkeypatch.setenv(name, str(value))
    mmkdfuse.train(**short, work_dir=tmp_path, launcher='pytorch')
    (runner,) = runners
    assert type(runner.model).__name__ == 'MMDistributedDataParallel'
    assert runner.model.find_unused_parameters is False
    assert runner.model.broadcast_buffers is False
    assert not torch.distributed.is_initialized()
    assert runner.iter == 2


def test_without_validation_there_are_no_metrics(tmp_path, short, monkeypatch):
    """And without a work directory there is one of the config's name."""
    monkeypatch.chdir(tmp_path)
    assert mmkdfuse.train(**short) == {}
    work_dir = tmp_path / 'work_dirs' / 'quickstart' / 'kfmsd_digits'
    record = json.loads((work_dir / 'metrics.json').read_text())
    assert (record['metrics'], record['best'], record['epochs']) == ({}, None, 1)
    assert (work_dir / 'epoch_1.pth').is_file()


def test_amp_on_a_cpu_is_bf16(tmp_path, short, runners, monkeypatch):
    seen, forward = [], KFMSD._run_forward

    def spy(self, data, mode):
        seen.append(torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu'))
        return forward(self, data, mode)

    monkeypatch.setattr(KFMSD, '_run_forward', spy)  # of steps
    mmkdfuse.train(**short, work_dir=tmp_path, amp=True)
    if not torch.cuda.is_available():
        assert seen == [torch.bfloat16] * 2
        assert type(runners[0].optim_wrapper).__name__ == 'BF16OptimWrapper'
    weights = load_file(tmp_path / 'epoch_1.pth')['state_dict']
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float32}


def test_learning_rate_follows_the_batch(tmp_path, short):
    short['cfg_options']['auto_scale_lr.base_batch_size'] = 64
    mmkdfuse.train(**short, work_dir=tmp_path, auto_scale_lr=True)
    (group,) = load_file(tmp_path / 'epoch_1.pth')['optimizer']['param_groups']
    assert group['initial_lr'] == pytest.approx(0.1 * 16 / 64)


def test_scaling_the_learning_rate_needs_the_batch_it_was_meant_for(short):
    with pytest.raises(ValueError, match='auto_scale_lr.base_batch_size'):
        mmkdfuse.train(**short, auto_scale_lr=True)


def test_mistakes_are_found_before_anything_is_written(tmp_path, short):
    short['cfg_options'] |= {'model.gama': 0.5, 'default_hooks.timer.type': 'IterTimer'}
    with pytest.raises(ConfigError) as info:
        mmkdfuse.train(**{**short, 'preflight': True}, work_dir=tmp_path / 'run')
    assert len(info.value.mistakes) == 2 and "'gamma'" in str(info.value)
    assert not (tmp_path / 'run').exists()


def test_predictions_are_written_once_per_image(tmp_path, trained):
    out = tmp_path / 'predictions.pkl'
    arguments = dict(work_dir=tmp_path, cfg_options=trained.options, out=out)
    metrics = mmkdfuse.test(trained.config, trained.checkpoint, **arguments)
    assert metrics == trained.metrics
    predictions = pickle.loads(out.read_bytes())
    model = mmkdfuse.load(trained.config, trained.checkpoint, cfg_options=trained.options)
    images = Digits(split='test', subset=51)
    batch = model.data_preprocessor(images.__getitems__(range(51)))
    with torch.no_grad():
        logits = model(batch['inputs'])
    assert len(predictions) == 51
    scores = torch.stack([prediction['pred_score'] for prediction in predictions])
    torch.testing.assert_close(scores, logits[-1].softmax(dim=1), rtol=1e-4, atol=1e-6)
    labels = torch.cat([prediction['gt_label'] for prediction in predictions])
    assert torch.equal(labels, batch['data_samples'])


def test_metrics_are_written(tmp_path, trained):
    out = tmp_path / 'metrics.json'
    arguments = dict(work_dir=tmp_path, cfg_options=trained.options, out=out, out_item='metrics')
    assert mmkdfuse.test(trained.config, trained.checkpoint, **arguments) == trained.metrics
    assert json.loads(out.read_text()) == trained.metrics


def test_an_unknown_item_to_write_is_refused(trained):
    with pytest.raises(ValueError, match="out_item='all' must be 'pred' or 'metrics'"):
        mmkdfuse.test(trained.config, trained.checkpoint, out='x.pkl', out_item='all')


def test_a_loaded_model_is_ready_to_infer(trained):
    model = mmkdfuse.load(trained.config, trained.checkpoint, cfg_options=trained.options)
    again = mmkdfuse.load(trained.config, str(trained.checkpoint), cfg_options=trained.options)
    random = mmkdfuse.load(trained.config, cfg_options=trained.options)
    assert isinstance(model, KFMSD) and not model.training
    assert type(model.data_preprocessor).__name__ == 'BatchPreprocessor'
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model(image), again(image), strict=True))
        assert not torch.equal(model(image)[-1], random(image)[-1])
        assert torch.equal(model.deployed()(image, mode='tensor'), model(image)[-1])


@pytest.fixture
def altered(tmp_path, trained):
    """Writes the trained weights with a change."""

    def write(change):
        state = dict(load_file(trained.checkpoint)['state_dict'])
        change(state)
        path = tmp_path / 'altered.pth'
        torch.save(dict(state_dict=state), path)
        return path

    return write


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda state: state.pop('head.main.fc.bias'), 'missing: head.main.fc.bias'),
        (lambda state: state.update(extra=torch.ones(1)), 'unexpected: extra'),
        (
            lambda state: state.update({'head.main.fc.bias': torch.ones(7)}),
            r'misshapen: head.main.fc.bias \(7,\) instead of \(10,\)',
        ),
    ],
    ids=['missing', 'unexpected', 'misshapen'],
)
def test_weights_that_do_not_fit_exactly_are_refused(altered, tmp_path, trained, change, problem):
    checkpoint = altered(change)
    for function in (mmkdfuse.load, mmkdfuse.test):
        arguments = dict(cfg_options=trained.options)
        if function is mmkdfuse.test:
            arguments['work_dir'] = tmp_path
        with pytest.raises(RuntimeError, match=f'altered.pth.* does not fit KFMSD; .*{problem}'):
            function(trained.config, checkpoint, **arguments)


def test_a_missing_checkpoint_is_named(trained):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        mmkdfuse.load(trained.config, 'nowhere.pth', cfg_options=trained.options)


def test_runs_of_one_second_share_nothing(runners, short, tmp_path):
    """mmengine names a run by config and second."""
    for number in range(2):
        mmkdfuse.train(**{**short, 'work_dir': tmp_path / str(number)})
    assert len({runner.experiment_name for runner in runners}) == 2
    assert all(list((tmp_path / str(number)).glob('*/vis_data/scalars.json')) for number in (0, 1))
