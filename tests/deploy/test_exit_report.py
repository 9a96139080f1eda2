"""The tool's table, files and curve for a trained run."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmkdfuse
from mmkdfuse.deploy import EarlyExit
from mmkdfuse.deploy.exit_report import report_early_exit

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'early_exit.py'
THRESHOLDS = (0.9, 0.12, 0.2)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('early_exit')


@pytest.fixture(scope='module')
def report(trained, folder):
    return report_early_exit(
        trained.config,
        trained.checkpoint,
        out_dir=folder,
        thresholds=THRESHOLDS,
        cfg_options=trained.options,
    )


def test_heads_alone_are_what_validation_said(report, trained):
    assert list(report.fixed) == list(report.costs) == ['branch1', 'branch2', 'branch3', 'main']
    for name, head in report.fixed.items():
        assert head.accuracy == pytest.approx(trained.metrics[f'{name}/top1'], abs=1e-4)
        assert head.macs <= report.costs[name]


def test_the_curve_is_what_the_predictor_does(report, trained):
    model = mmkdfuse.load(trained.config, trained.checkpoint, cfg_options=trained.options)
    from mmkdfuse.engine.launch import load_config
    from mmkdfuse.registry import DATASETS

    cfg = load_config(trained.config, trained.options)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    batch = dataset.__getitems__(range(len(dataset)))
    batch = model.data_preprocessor(batch)
    images, labels = batch['inputs'], batch['data_samples']
    assert len(dataset) == report.images
    assert [point.threshold for point in report.curve] == sorted(THRESHOLDS)
    for point in report.curve:
        predictions = EarlyExit(model, point.threshold).predict(images, labels)
        exits = [prediction.exit for prediction in predictions]
        shares = [exits.count(name) / len(exits) for name in report.costs]
        # At most one image may lie within rounding of a threshold.
        np.testing.assert_allclose(point.shares, shares, atol=1.01 / len(exits))
        hits = [bool(p.pred_label == p.gt_label) for p in predictions]
        assert point.accuracy == pytest.approx(100 * np.mean(hits), abs=101 / len(exits))
        spent = np.mean([report.costs[name] for name in exits])
        assert point.macs == pytest.approx(spent, rel=0.02)


def test_files_and_table(report, folder, trained):
    content = json.loads((folder / 'exit_curve.json').read_text())
    assert content['images'] == report.images and content['stagewise'] is True
    assert content['macs_when_leaving'] == report.costs
    assert content['checkpoint'] == str(trained.checkpoint)
    assert [row['macs'] for row in content['curve']] == [point.macs for point in report.curve]
    assert all(sum(row['shares'].values()) == pytest.approx(1) for row in content['curve'])
    assert content['heads_alone']['main']['accuracy'] == report.fixed['main'].accuracy
    picture = np.asarray(Image.open(folder / 'exit_curve.png').convert('RGB'))
    assert picture.shape == (675, 1050, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(THRESHOLDS) + 4 + 1
    assert lines[0].split()[:2] == ['threshold', 'accuracy'] and lines[1].startswith('0.12 ')
    assert lines[-2].startswith('main alone') and lines[-2].split()[-1] == '100.0%'
    assert str(folder) in lines[-1]


def test_the_tool(tmp_path, trained, monkeypatch, capsys):
    options = [f'{key}={value}' for key, value in trained.options.items()]
    arguments = ['--out-dir', str(tmp_path), '--thresholds', '0.3', '--cfg-options', *options]
    monkeypatch.setattr(
        sys, 'argv', [str(TOOL), trained.config, str(trained.checkpoint), *arguments]
    )
    runpy.run_path(str(TOOL), run_name='__main__')
    printed = capsys.readouterr().out
    assert '\n0.3 ' in printed and 'main alone' in printed
    assert json.loads((tmp_path / 'exit_curve.json').read_text())['curve'][0]['threshold'] == 0.3


def test_bad_inputs(make, tmp_path, trained):
    _, cfg, checkpoint = make(type='DML', peers=1)
    with pytest.raises(ValueError, match='model=DML has no branches on one network'):
        report_early_exit(cfg, checkpoint)
    _, cfg, checkpoint = make()
    with pytest.raises(ValueError, match=r'threshold=2 must be in \(0, 1\]'):
        report_early_exit(cfg, checkpoint, thresholds=[0.5, 2])
    with pytest.raises(ValueError, match=r'threshold=0 must be in \(0, 1\]'):
        report_early_exit(cfg, checkpoint, thresholds=[0, 0.5])
    with pytest.raises(ValueError, match=r'thresholds=\(\) must hold at least one'):
        report_early_exit(cfg, checkpoint, thresholds=())
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth'):
        report_early_exit(cfg, tmp_path / 'nothing.pth')
    with pytest.raises(RuntimeError, match='does not fit'):
        report_early_exit(trained.config, trained.checkpoint)
    assert not (checkpoint.parent / 'early_exit').exists()
