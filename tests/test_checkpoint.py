import os
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmkdfuse.checkpoint import (
    latest_checkpoint,
    load_strictly,
    pack_resume_state,
    unpack_resume_state,
    write_atomically,
)


def test_load_strictly_names_every_problem():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = module[0].weight.clone()
    state = {
        '0.weight': torch.zeros(3, 2),
        '0.bias': torch.zeros(4),
        '1.weight': torch.zeros(1, 3),
        'fc.bias': torch.zeros(1),
    }
    with pytest.raises(RuntimeError) as error:
        load_strictly(module, state, "teacher checkpoint 'a.pth'")
    message = str(error.value)
    assert message.startswith("teacher checkpoint 'a.pth' does not fit Sequential; missing: 1.bias")
    assert 'unexpected: fc.bias' in message
    assert 'misshapen: 0.bias (4,) instead of (3,)' in message
    assert torch.equal(module[0].weight, before)


def test_load_strictly_shortens_long_lists_and_loads_what_fits():
    module = nn.Sequential(*[nn.Linear(1, 1) for _ in range(8)])
    with pytest.raises(RuntimeError, match='and 6 more'):
        load_strictly(module, {}, 'x')
    state = {key: torch.full_like(value, 2) for key, value in module.state_dict().items()}
    load_strictly(module, state, 'x')
    assert module[7].bias.item() == 2


def test_packed_state_is_plain_and_comes_back(tmp_path):
    history = HistoryBuffer([0.1, 0.2, float('nan')], [1, 1, 2], max_length=7)
    state = {
        'history': history,
        'integers': HistoryBuffer([1, 2], [1, 1]),
        'scalar': np.float64(0.5),
        'flag': np.bool_(True),
        'array': np.arange(6, dtype=np.int32).reshape(2, 3),
        'names': np.array(['a', 'bc']),
        'nested': OrderedDict(a=(1, [2.5, None, 'x', True], torch.tensor([1, 2]))),
        'milestones': Counter({30: 1, 60: 2}),
        'path': Path('a/b'),
    }
    torch.save(pack_resume_state(state), tmp_path / 'state.pth')
    back = unpack_resume_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert isinstance(back['history'], HistoryBuffer)
    np.testing.assert_array_equal(back['history'].data[0], history.data[0])
    assert back['history'].data[1].tolist() == [1, 1, 2]
    assert back['history'].max_length == 7
    assert back['history'].mean(1) == pytest.approx(float('nan'), nan_ok=True)
    assert back['integers'].data[0].dtype == state['integers'].data[0].dtype
    assert back['scalar'] == 0.5 and type(back['scalar']) is float
    assert back['flag'] is True
    np.testing.assert_array_equal(back['array'], state['array'])
    assert back['array'].dtype == np.int32
    assert back['names'].tolist() == ['a', 'bc']
    assert type(back['nested']) is OrderedDict
    assert back['nested']['a'][:2] == (1, [2.5, None, 'x', True])
    assert back['nested']['a'][1][3] is True
    assert back['nested']['a'][2].tolist() == [1, 2]
    assert back['milestones'] == Counter({30: 1, 60: 2}) and type(back['milestones']) is Counter
    assert back['path'] == 'a/b'


def test_packing_names_what_it_cannot_hold():
    with pytest.raises(RuntimeError, match=r'hub\.a\[1\] is a builtins\.object, which'):
        pack_resume_state({'a': [1, object()]}, 'hub')


def test_write_atomically_replaces_or_keeps(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'file.bin'
    write_atomically(path, b'old')
    write_atomically(path, b'new')
    assert path.read_bytes() == b'new'
    assert os.listdir(path.parent) == ['file.bin']

    def fail(descriptor):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        write_atomically(path, b'never')
    assert path.read_bytes() == b'new'


def save_epoch(folder, epoch, optimizer=True):
    content = {'meta': {'iter': 10 * epoch, 'epoch': epoch}, 'state_dict': {}}
    path = folder / f'epoch_{epoch}.pth'
    torch.save({**content, 'optimizer': {}} if optimizer else content, path)
    return path


def test_latest_checkpoint_follows_the_pointer(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    first = save_epoch(tmp_path, 1)
    save_epoch(tmp_path, 2)
    (tmp_path / 'last_checkpoint').write_text(str(first))
    assert latest_checkpoint(tmp_path) == str(first)


def test_latest_checkpoint_of_a_copied_folder_is_its_own(tmp_path):
    (tmp_path / 'original').mkdir()
    (tmp_path / 'copy').mkdir()
    original = save_epoch(tmp_path / 'original', 1)
    own = save_epoch(tmp_path / 'copy', 1)
    (tmp_path / 'copy' / 'last_checkpoint').write_text(str(original))
    assert latest_checkpoint(tmp_path / 'copy') == str(own)
    own.unlink()
    assert latest_checkpoint(tmp_path / 'copy') == str(original)


@pytest.mark.parametrize('pointer', ['', 'epoch_10.pth', 'gone.pth', None])
def test_latest_checkpoint_falls_back_to_the_newest_loadable(tmp_path, pointer):
    save_epoch(tmp_path, 2)
    newest = save_epoch(tmp_path, 9)
    save_epoch(tmp_path, 3)
    (tmp_path / 'best_top1_epoch_11.pth').write_bytes(
        save_epoch(tmp_path, 11, optimizer=False).read_bytes()
    )
    broken = save_epoch(tmp_path, 10)
    broken.write_bytes(broken.read_bytes()[:-40])
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer and str(tmp_path / pointer))
    assert latest_checkpoint(tmp_path) == str(newest)
