"""Data set, collate function and preprocessor inside mmengine's Runner."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmkdfuse.datasets import BatchPreprocessor, Digits, augment


class Recorder(BaseModel):
    """Keeps every batch it is trained on."""

    def __init__(self):
        super().__init__(BatchPreprocessor(crop_padding=4, flip_prob=0.5))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, inputs, data_samples=None, indices=None, mode='tensor'):
        self.seen.append((inputs, data_samples, indices))
        return {'loss': self.weight * inputs.mean()}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('workers', [0, 2])
def test_each_epoch_is_augmented_by_seed_epoch_and_index(tmp_path, workers):
    model, data = Recorder(), Digits(subset=40)
    Runner(
        model=model,
        work_dir=str(tmp_path),
        experiment_name=f'augment-{workers}',
        train_dataloader={
            'batch_size': 16,
            'num_workers': workers,
            'persistent_workers': workers > 0,
            'dataset': {'type': 'Digits', 'subset': 40},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'collate_fn': {'type': 'identity_collate'},
        },
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={'checkpoint': None},
        default_scope='mmkdfuse',
        randomness={'seed': 123},
        log_level='ERROR',
    ).train()
    assert len(model.seen) == 6
    for epoch in range(2):
        inputs, labels, indices = (
            torch.cat(part) for part in zip(*model.seen[3 * epoch : 3 * epoch + 3], strict=True)
        )
        order = indices.argsort()
        assert torch.equal(indices[order], data.store.indices)
        assert torch.equal(labels[order], data.store.labels)
        expected = augment(
            data.store.images, data.store.indices, seed=123, epoch=epoch, padding=4, flip_prob=0.5
        )
        assert torch.equal(inputs[order], expected.float())
