import os
import shutil

import pytest
import torch
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from toy_training import assert_same_state, build_runner, state_of

import mmkdfuse.engine.hooks.checkpoint_hook as checkpoint_hook
from mmkdfuse.registry import HOOKS


def files(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith('.pth'))


def test_registered_beside_the_original():
    assert HOOKS.get('CheckpointHook') is checkpoint_hook.CheckpointHook
    assert HOOKS.get('mmengine.CheckpointHook') is MMEngineCheckpointHook


def test_files_are_plain_and_named_by_metric(tmp_path):
    checkpoint = {'save_best': 'main/top1', 'max_keep_ckpts': 1}
    runner = build_runner(tmp_path, 3, checkpoint, scripted=[0.2, 0.6, 0.5])
    runner.train()
    assert files(tmp_path) == ['best_main_top1_epoch_2.pth', 'epoch_3.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')
    assert not [name for name in os.listdir(tmp_path) if name.endswith('.tmp')]
    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert saved['meta']['epoch'] == 3 and saved['meta']['iter'] == 15
    info = saved['message_hub']['runtime_info']
    assert info['best_score'] == 0.6
    assert info['best_ckpt'] == 'best_main_top1_epoch_2.pth'  # no folder
    assert saved['message_hub']['log_scalars']['train/loss_ce']['logs'].shape == (15,)
    best = torch.load(tmp_path / 'best_main_top1_epoch_2.pth', weights_only=True)
    assert 'optimizer' not in best
    assert runner.message_hub.get_info('best_ckpt') == str(tmp_path / info['best_ckpt'])


@pytest.mark.parametrize('rule, best', [('less', 1), ('greater', 2)])
def test_several_best_metrics(tmp_path, rule, best):
    checkpoint = {
        'save_best': ['main/top1', 'error'],
        'rule': [rule, 'less'],
        'interval': 2,
        'save_last': False,
    }
    build_runner(tmp_path, 3, checkpoint, scripted=[0.2, 0.6, 0.5]).train()
    assert files(tmp_path) == [
        'best_error_epoch_2.pth',
        f'best_main_top1_epoch_{best}.pth',
        'epoch_2.pth',
    ]


def test_by_iteration_and_published(tmp_path):
    checkpoint = {
        'by_epoch': False,
        'interval': 4,
        'save_best': 'main/top1',
        'published_keys': ['meta', 'state_dict'],
    }
    build_runner(tmp_path, 2, checkpoint, scripted=[0.2, 0.1]).train()
    names = files(tmp_path)
    assert names[:1] + [n for n in names if n.startswith('iter') and '-' not in n] == [
        'best_main_top1_iter_5-' + names[0][-12:],
        'iter_10.pth',
        'iter_4.pth',
        'iter_5.pth',
        'iter_8.pth',
    ]
    published = torch.load(tmp_path / names[0], weights_only=True)
    assert published.keys() == {'meta', 'state_dict'}


def test_unknown_best_metric_names_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"save_best='acc/top1'.*main/top1, error"):
        build_runner(tmp_path, 1, {'save_best': 'acc/top1'}).train()


def test_old_files_are_removed_after_the_new_one_is_written(tmp_path, monkeypatch):
    seen = {}
    write = checkpoint_hook.write_atomically

    def spy(path, data):
        seen.setdefault(os.path.basename(path), files(tmp_path))
        write(path, data)

    monkeypatch.setattr(checkpoint_hook, 'write_atomically', spy)
    checkpoint = {'save_best': 'main/top1', 'max_keep_ckpts': 1}
    build_runner(tmp_path, 2, checkpoint, scripted=[0.2, 0.6]).train()
    assert seen['epoch_2.pth'] == ['best_main_top1_epoch_1.pth', 'epoch_1.pth']
    assert 'best_main_top1_epoch_1.pth' in seen['best_main_top1_epoch_2.pth']
    assert files(tmp_path) == ['best_main_top1_epoch_2.pth', 'epoch_2.pth']


def test_copied_work_dir_leaves_the_original_alone(tmp_path):
    checkpoint = {'save_best': 'main/top1', 'max_keep_ckpts': 1}
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    build_runner(original, 2, checkpoint, scripted=[0.2, 0.3]).train()
    before = files(original)
    assert before == ['best_main_top1_epoch_2.pth', 'epoch_2.pth']
    shutil.copytree(original, copy)
    build_runner(copy, 4, checkpoint, scripted=[0.1, 0.6, 0.7], resume=True).train()
    assert files(original) == before
    assert files(copy) == ['best_main_top1_epoch_4.pth', 'epoch_4.pth']


def test_best_score_survives_a_resume(tmp_path):
    checkpoint = {'save_best': 'main/top1'}
    build_runner(tmp_path, 2, checkpoint, scripted=[0.7, 0.3]).train()
    build_runner(tmp_path, 3, checkpoint, scripted=[0.3, 0.6], resume=True).train()
    assert 'best_main_top1_epoch_1.pth' in files(tmp_path)
    assert 'best_main_top1_epoch_3.pth' not in files(tmp_path)


def test_message_hub_comes_back(tmp_path):
    build_runner(tmp_path, 1).train()
    resumed = build_runner(tmp_path, 2, resume=True)
    resumed.train()
    logs, counts = resumed.message_hub.get_scalar('train/loss_ce').data
    assert logs.shape == counts.shape == (10,)


def test_objects_in_the_message_hub_do_not_stop_a_run(tmp_path):
    runner = build_runner(tmp_path, 1)
    runner.message_hub.update_info('strange', object())
    runner.train()
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert 'strange' not in saved['message_hub']['runtime_info']


def test_resume_of_unusable_files(tmp_path):
    build_runner(tmp_path / 'a', 1, {'save_best': 'main/top1'}).train()
    best = tmp_path / 'a' / 'best_main_top1_epoch_1.pth'
    with pytest.raises(RuntimeError, match=r'best_main_top1_epoch_1\.pth.*lacks optimizer'):
        build_runner(tmp_path / 'b', 2, resume=True, load_from=str(best)).train()
    whole = torch.load(tmp_path / 'a' / 'epoch_1.pth', weights_only=True)
    whole['state_dict'].pop('head.bias')
    torch.save(whole, tmp_path / 'cut.pth')
    with pytest.raises(RuntimeError, match=r'cut\.pth.*missing: head\.bias'):
        build_runner(tmp_path / 'b', 2, resume=True, load_from=str(tmp_path / 'cut.pth')).train()


def test_load_from_a_plain_weights_file(tmp_path):
    source = build_runner(tmp_path / 'a', 1)
    source.train()
    plain = {'meta': {}, 'state_dict': source.model.state_dict()}
    torch.save(plain, tmp_path / 'plain.pth')
    runner = build_runner(tmp_path / 'b', 1, load_from=str(tmp_path / 'plain.pth'))
    runner.load_or_resume()
    torch.testing.assert_close(runner.model.state_dict(), source.model.state_dict())


def test_resume_in_an_empty_folder_starts_from_the_beginning(tmp_path):
    fresh, resumed = build_runner(tmp_path / 'a', 1), build_runner(tmp_path / 'b', 1, resume=True)
    fresh.train()
    resumed.train()
    assert_same_state(state_of(fresh), state_of(resumed))


def test_validation_outside_training_saves_nothing(tmp_path):
    runner = build_runner(tmp_path, 1, {'save_best': 'main/top1'})
    assert 'main/top1' in runner.val()
    assert files(tmp_path) == []


def test_ema_weights_are_saved_and_resumed(tmp_path):
    ema = {'type': 'EMAHook', 'momentum': 0.1}
    full = build_runner(tmp_path / 'a', 3, hooks=[ema])
    full.train()
    build_runner(tmp_path / 'b', 2, hooks=[ema]).train()
    resumed = build_runner(tmp_path / 'b', 3, hooks=[ema], resume=True)
    resumed.train()
    assert_same_state(state_of(full), state_of(resumed))
    a, b = (torch.load(tmp_path / d / 'epoch_3.pth', weights_only=True) for d in 'ab')
    torch.testing.assert_close(a['ema_state_dict'], b['ema_state_dict'], rtol=0, atol=0)
    torch.testing.assert_close(a['state_dict'], b['state_dict'], rtol=0, atol=0)
    assert not torch.equal(a['state_dict']['head.bias'], a['ema_state_dict']['module.head.bias'])
