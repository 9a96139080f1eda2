"""A loss with a memory: of one process, of the images seen, and of no other process."""

import importlib
import json
import math
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmkdfuse.checkpoint import load_file
from mmkdfuse.structures import TrainingSet

NAMES = {'ContrastLoss.student', 'ContrastLoss.teacher'}


def test_contrast_is_the_cross_entropy_of_finding_the_positive(project):
    contrast = importlib.import_module('contrast').contrast
    anchors = F.normalize(torch.randn(5, 8), dim=1)
    far = -anchors[:, None].expand(-1, 3, -1)
    expected = -math.log(math.exp(2) / (math.exp(2) + 3 * math.exp(-2)))
    assert contrast(anchors, anchors, far, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_a_step_changes_the_memory_of_its_images_alone(build, images, labels):
    model = build('contrast')
    assert model.needs_dataset and not model.memories()
    model.see_dataset(TrainingSet(50, None, 10))
    before = {name: memory.clone() for name, memory in model.memories().items()}
    assert set(before) == NAMES
    indices = torch.tensor([7, 0, 49, 21])
    model(images, labels, mode='loss', indices=indices)['loss_contrast'].backward()
    for name, memory in model.memories().items():
        rows = (memory != before[name]).any(dim=1).nonzero().flatten()
        assert rows.tolist() == sorted(indices.tolist())
        torch.testing.assert_close(memory.norm(dim=1), torch.ones(50))
    weights = model.losses.ContrastLoss.named_parameters()
    assert len([name for name, weight in weights if weight.grad is not None]) == 4


def test_a_memory_is_where_the_model_is(build):
    model = build('contrast').to('meta')
    model.see_dataset(TrainingSet(50, None, 10))
    assert {memory.device.type for memory in model.memories().values()} == {'meta'}


def test_data_without_indices_are_refused(build, images, labels):
    with pytest.raises(ValueError, match='^ContrastLoss reads the dataset indices of the images'):
        build('contrast')(images, labels, mode='loss')


def test_the_memory_is_saved_for_a_resume_and_is_no_weight(run_of):
    work_dir = run_of('contrast').work_dir
    (memories,) = load_file(work_dir / 'epoch_1.pth')['memories']
    assert set(memories) == NAMES
    (best,) = work_dir.glob('best_*.pth')
    assert 'memories' not in load_file(best)
    state = load_file(work_dir / 'epoch_2.pth')['state_dict']
    own = {name for name in state if name.startswith('losses.')}
    parts = ('student.weight', 'student.bias', 'teacher.weight', 'teacher.bias')
    assert own == {f'losses.ContrastLoss.adapters.{part}' for part in parts}


@pytest.fixture(scope='module')
def two_processes(project, teacher_of, tmp_path_factory):
    """Checkpoints of two epochs in two processes: the first, the last, and the last once more.

    The last run was resumed behind the first epoch.
    """
    folder = tmp_path_factory.mktemp('two_processes')
    options = {**project.options, 'model.teacher.checkpoint': teacher_of('contrast')}
    script = Path(__file__).with_name('two_processes.py')
    arguments = [project.config('contrast'), folder, json.dumps(options), *free_ports(2)]
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(project.folder), os.environ.get('PYTHONPATH', '')]),
        'OMP_NUM_THREADS': '1',
        'MASTER_ADDR': '127.0.0.1',
        'WORLD_SIZE': '2',
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env={**environment, 'RANK': rank, 'LOCAL_RANK': rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in '01'
    ]
    outputs = [rank.communicate(timeout=600)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], '\n'.join(outputs)
    files = ('whole/epoch_1.pth', 'whole/epoch_2.pth', 'resumed/epoch_2.pth')
    return [load_file(folder / file) for file in files]


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


def test_every_process_remembers_the_images_that_it_saw(two_processes):
    """Both started with the same memory, and each saw half of the 64 images."""
    first, second = two_processes[0]['memories']
    assert set(first) == set(second) == NAMES
    for name in NAMES:
        assert (first[name] != second[name]).any(dim=1).sum() == 64


def test_every_process_gets_its_own_memory_back(two_processes):
    _, whole, resumed = two_processes
    assert len(whole['memories']) == 2
    for part in ('memories', 'state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
