"""In bf16 the loss of MFAKD falls as in float32: the two differ less than two seeds do."""

import numpy as np
import pytest
import torch

from mmkdfuse.datasets import BatchPreprocessor, Digits
from mmkdfuse.engine import BF16OptimWrapper, OptimWrapper
from mmkdfuse.models import MFAKD, Classifier

STEPS, BATCH = 200, 16
NORMALISE = dict(mean=[77.0] * 3, std=[90.0] * 3)
STUDENT, TEACHER = (dict(arch='vgg8', base_channels=width) for width in (4, 8))


def mfakd(checkpoint):
    return MFAKD(STUDENT, dict(TEACHER, checkpoint=str(checkpoint)), 10, 32)


@pytest.fixture(scope='module')
def batches():
    """The batches of every seed, in its order."""
    data, preprocessor = Digits(), BatchPreprocessor(**NORMALISE, channels_last=True)

    def of(seed):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        parts = order[: len(order) // BATCH * BATCH].split(BATCH)
        for step in range(STEPS):
            yield preprocessor(data.__getitems__(parts[step % len(parts)]))

    return of


def losses(model, wrapper_type, seed, batches):
    torch.manual_seed(seed)
    model.init_weights()
    wrapper = wrapper_type(torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    wrapper.initialize_count_status(model, 0, STEPS)
    model.train()
    curve = []
    for batch in batches(seed):
        with wrapper.optim_context(model):
            loss = sum(model(batch['inputs'], batch['data_samples'], mode='loss').values())
        wrapper.update_params(loss)
        curve.append(loss.item())
    return np.array(curve)


@pytest.mark.slow
def test_the_loss_curve_is_within_the_noise_of_seeds(batches, tmp_path):
    torch.manual_seed(0)
    # One for all seeds, or the losses would differ in scale; it need not have learned anything.
    torch.save(Classifier(TEACHER, 10, 32).state_dict(), tmp_path / 'teacher.pth')
    exact, other, mixed = (
        losses(mfakd(tmp_path / 'teacher.pth'), wrapper, seed, batches)
        for wrapper, seed in ((OptimWrapper, 0), (OptimWrapper, 1), (BF16OptimWrapper, 0))
    )
    assert exact[-20:].mean() < 0.8 * exact[:20].mean()  # it learns
    assert not np.array_equal(mixed, exact)
    assert np.abs(mixed - exact).mean() < np.abs(other - exact).mean()
