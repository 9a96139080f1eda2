"""Crop, flip, normalise: against per-image loops, statistics, and what must not matter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmpretrain.models import ClsDataPreprocessor

from mmkdfuse.datasets.batch_augment import augment, draw
from mmkdfuse.datasets.batch_preprocessor import BatchPreprocessor
from mmkdfuse.registry import MODELS

MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]


def images_of(n, channels=3, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (n, channels, height, width), generator=generator).byte()


def batch_of(n, **kwargs):
    return {
        'inputs': images_of(n, **kwargs),
        'labels': torch.arange(n) % 7,
        'indices': torch.arange(n) * 3 + 5,
    }


@pytest.fixture
def hub():
    """A message hub of its own, so that tests do not see each other's epoch."""
    return MessageHub.get_instance(f'test-{np.random.randint(1 << 40)}')


def splitmix64(state):
    """The published algorithm on unsigned Python integers, one step from ``state``."""
    word = 1 << 64
    z = (state + 0x9E3779B97F4A7C15) % word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % word
    return z ^ (z >> 31)


def test_splitmix64_reference_value():
    # First output for state 0 in the published test vectors.
    assert splitmix64(0) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize('seed', [0, 1, 2**31, -1])
def test_draw_equals_unsigned_integer_arithmetic(seed):
    indices = [0, 1, 2, 49_999, 2**40]
    top, left, flip = draw(torch.tensor(indices), seed=seed, epoch=3, padding=4, flip_prob=0.25)
    golden, word = 0x9E3779B97F4A7C15, 1 << 64
    # splitmix64 adds the golden constant before mixing, the key is mixed as it stands.
    inner = splitmix64((seed - golden) % word)
    key = splitmix64((inner + 3 - golden) % word)
    for row, index in enumerate(indices):
        bits = splitmix64((key + golden * (index - 1)) % word)
        assert top[row] == (bits % 2**21) * 9 >> 21
        assert left[row] == (bits // 2**21 % 2**21) * 9 >> 21
        assert flip[row] == (bits // 2**42 < 0.25 * 2**22)


def test_offsets_are_uniform_and_flips_have_their_rate():
    n = 81 * 1000
    top, left, flip = draw(torch.arange(n), seed=0, epoch=0, padding=4, flip_prob=0.5)
    counts = torch.bincount(top * 9 + left, minlength=81).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum().item()
    # 80 degrees of freedom: mean 80, standard deviation 12.6.
    assert 35 < chi_square < 140
    # Standard deviation of the rate: 0.5 / sqrt(n) = 0.0018.
    assert abs(flip.double().mean().item() - 0.5) < 0.008
    joint = torch.bincount(flip.long() * 9 + left, minlength=18).double() / n
    assert (joint - 1 / 18).abs().max() < 0.004


@pytest.mark.parametrize('other', [{'epoch': 1}, {'seed': 1}])
def test_draws_of_other_epoch_or_seed_are_independent(other):
    args = {'seed': 0, 'epoch': 0, 'padding': 4, 'flip_prob': 0.5}
    index = torch.arange(20_000)
    first, second = draw(index, **args), draw(index, **{**args, **other})
    for a, b, chance in zip(first, second, (1 / 9, 1 / 9, 1 / 2), strict=True):
        assert abs((a == b).double().mean().item() - chance) < 0.02


@pytest.mark.parametrize(
    'height, width', [(32, 32), (64, 64), (28, 28), (7, 16), (6, 10), (5, 9), (1, 1)]
)
@pytest.mark.parametrize(
    'padding, flip_prob', [(4, 0.5), (0, 0.5), (3, 0.0), (2, 1.0), (0, 0.0), (12, 0.5)]
)
@pytest.mark.parametrize('pad_value', [0, 17])
def test_equals_pad_crop_flip_of_one_image_after_the_other(
    height, width, padding, flip_prob, pad_value
):
    images = images_of(40, height=height, width=width)
    indices = torch.randperm(1000)[:40]
    args = {'seed': 5, 'epoch': 2, 'padding': padding, 'flip_prob': flip_prob}
    expected = []
    for image, top, left, flip in zip(images, *draw(indices, **args), strict=True):
        image = F.pad(image, (padding,) * 4, value=pad_value)
        image = image[:, top : top + height, left : left + width]
        expected.append(image.flip(2) if flip else image)
    found = augment(images, indices, pad_value=pad_value, **args)
    assert found.dtype == torch.uint8 and found.is_contiguous()
    assert torch.equal(found, torch.stack(expected))


def test_memory_layout_of_the_source_does_not_matter():
    images, index = images_of(16, height=6, width=10), torch.arange(16)
    args = {'seed': 0, 'epoch': 1, 'padding': 3, 'flip_prob': 0.5, 'pad_value': 9}
    expected = augment(images, index, **args)
    rows = images.repeat_interleave(2, dim=2)[:, :, ::2]
    for source in (images.contiguous(memory_format=torch.channels_last), rows):
        assert not source.is_contiguous()
        assert torch.equal(augment(source, index, **args), expected)


@pytest.mark.parametrize('pad_value', [0, 200])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.int32])
def test_single_channel_and_other_types(dtype, pad_value):
    grey = images_of(8, channels=1)
    args = {'seed': 0, 'epoch': 0, 'padding': 2, 'flip_prob': 0.5, 'pad_value': pad_value}
    found = augment(grey.to(dtype), torch.arange(8), **args)
    expected = augment(grey.repeat(1, 3, 1, 1), torch.arange(8), **args)[:, :1]
    assert found.dtype == dtype and torch.equal(found, expected.to(dtype))


def test_an_empty_batch_stays_empty():
    preprocessor = BatchPreprocessor(crop_padding=4, flip_prob=0.5)
    empty = {'inputs': images_of(0), 'indices': torch.arange(0)}
    for counter in ('epoch', 'iter'):
        preprocessor.counter = counter
        assert preprocessor(empty, training=True)['inputs'].shape == (0, 3, 32, 32)


def test_source_is_not_changed():
    images = images_of(16)
    before = images.clone()
    augment(images, torch.arange(16), seed=0, epoch=0, padding=4, flip_prob=1.0)
    BatchPreprocessor(MEAN, STD)({'inputs': images}, training=False)
    assert torch.equal(images, before)


def test_independent_of_batch_composition_and_order():
    images, index = images_of(64), torch.arange(64)
    args = {'seed': 1, 'epoch': 4, 'padding': 4, 'flip_prob': 0.5}
    whole = augment(images, index, **args)
    order = torch.randperm(64)
    assert torch.equal(augment(images[order], order, **args), whole[order])
    halves = [augment(images[part], part, **args) for part in index.split(24)]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(whole, images)


def test_random_state_of_torch_is_neither_read_nor_moved():
    before = torch.get_rng_state()
    args = {'seed': 1, 'epoch': 4, 'padding': 4, 'flip_prob': 0.5}
    first = augment(images_of(8), torch.arange(8), **args)
    torch.manual_seed(99)
    assert torch.equal(first, augment(images_of(8), torch.arange(8), **args))
    torch.set_rng_state(before)


def test_evaluation_normalises_like_mmpretrain():
    batch = batch_of(6)
    ours = MODELS.build(
        {'type': 'BatchPreprocessor', 'mean': MEAN, 'std': STD, 'crop_padding': 4, 'flip_prob': 0.5}
    )(batch, training=False)
    theirs = ClsDataPreprocessor(mean=MEAN, std=STD)({'inputs': batch['inputs']})
    torch.testing.assert_close(ours['inputs'], theirs['inputs'], rtol=1e-6, atol=1e-6)
    assert ours['inputs'].dtype == torch.float32 and ours['inputs'].is_contiguous()
    assert torch.equal(ours['data_samples'], batch['labels'])
    assert torch.equal(ours['indices'], batch['indices'])


def test_padding_is_black_before_normalising():
    batch = {'inputs': torch.full((64, 3, 8, 8), 200).byte(), 'indices': torch.arange(64)}
    out = BatchPreprocessor(MEAN, STD, crop_padding=4)(batch, training=True)['inputs']
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    grey = (200 - torch.tensor(MEAN)) / torch.tensor(STD)
    for channel in range(3):
        values = out[:, channel].unique()
        torch.testing.assert_close(values, torch.stack((black[channel], grey[channel])))


def test_without_mean_pixels_stay_in_0_255():
    batch = batch_of(3)
    out = BatchPreprocessor()(batch, training=True)['inputs']
    assert torch.equal(out, batch['inputs'].float())


def test_channels_last_changes_the_layout_only():
    batch, args = batch_of(8), {'mean': MEAN, 'std': STD, 'crop_padding': 4, 'flip_prob': 0.5}
    plain = BatchPreprocessor(**args)(batch, training=True)['inputs']
    last = BatchPreprocessor(channels_last=True, **args)(batch, training=True)['inputs']
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(plain, last)


def test_epoch_and_seed_come_from_the_message_hub(hub):
    batch = batch_of(32)
    preprocessor = BatchPreprocessor(crop_padding=4, flip_prob=0.5)

    def run(**info):
        hub.update_info_dict(info)
        return preprocessor(batch, training=True)['inputs']

    def expected(**args):
        return augment(batch['inputs'], batch['indices'], padding=4, flip_prob=0.5, **args).float()

    assert torch.equal(preprocessor(batch, training=True)['inputs'], expected(seed=0, epoch=0))
    assert torch.equal(run(seed=7, epoch=3), expected(seed=7, epoch=3))
    assert torch.equal(run(seed=7, epoch=4), expected(seed=7, epoch=4))
    assert torch.equal(run(seed=None, epoch=4), expected(seed=0, epoch=4))
    preprocessor.seed = 11
    assert torch.equal(run(seed=7, epoch=4), expected(seed=11, epoch=4))
    preprocessor.counter = 'iter'
    assert torch.equal(run(iter=900), expected(seed=11, epoch=900))


@pytest.mark.parametrize('first', [0, 1000, 2**40])
def test_windows_kept_for_an_epoch_are_those_of_every_sample(first, hub):
    preprocessor = BatchPreprocessor(crop_padding=4, flip_prob=0.5, seed=3)
    images, args = images_of(16), {'seed': 3, 'epoch': 0, 'padding': 4, 'flip_prob': 0.5}
    for batch in (16, 5, 16):  # the last one of an epoch is shorter
        indices = first + torch.randperm(400)[:batch]
        found = preprocessor({'inputs': images[:batch], 'indices': indices}, training=True)
        expected = augment(images[:batch], indices, **args)
        assert torch.equal(found['inputs'], expected.float())


def test_inference_needs_neither_labels_nor_indices():
    preprocessor = BatchPreprocessor(MEAN, STD, crop_padding=4)
    out = preprocessor({'inputs': images_of(2)})
    assert out['data_samples'] is None and out['indices'] is None
    preprocessor.as_data_samples = True
    assert [sample.keys() for sample in preprocessor({'inputs': images_of(2)})['data_samples']] == [
        [],
        [],
    ]


@pytest.mark.filterwarnings('ignore')
def test_stock_classifier_trains_and_predicts_from_it():
    model = MODELS.build(
        {
            'type': 'mmpretrain.ImageClassifier',
            'backbone': {'type': 'mmpretrain.LeNet5', 'num_classes': -1},
            'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
            'head': {
                'type': 'mmpretrain.LinearClsHead',
                'num_classes': 7,
                'in_channels': 120,
                'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
            },
            'data_preprocessor': {
                'type': 'mmkdfuse.BatchPreprocessor',
                'mean': [100.0],
                'std': [50.0],
                'crop_padding': 2,
                'as_data_samples': True,
            },
        }
    )
    batch = batch_of(8, channels=1)
    data = model.data_preprocessor(batch, True)
    assert data.keys() == {'inputs', 'data_samples'}
    assert [int(sample.gt_label) for sample in data['data_samples']] == batch['labels'].tolist()
    assert torch.isfinite(model._run_forward(data, mode='loss')['loss'])
    assert len(model.val_step(batch)) == 8


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'mean': MEAN}, 'given together'),
        ({'mean': MEAN, 'std': [1.0, 0.0, 1.0]}, 'positive'),
        ({'mean': MEAN, 'std': [1.0]}, '3 positive numbers'),
        ({'crop_padding': -1}, 'crop_padding=-1'),
        ({'flip_prob': 1.5}, 'flip_prob=1.5'),
        ({'pad_value': 256}, 'pad_value=256'),
        ({'counter': 'step'}, "'epoch' or 'iter'"),
        ({'batch_augments': {'augments': 'Mixup'}}, 'ClsDataPreprocessor'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchPreprocessor(**arguments)


@pytest.mark.parametrize(
    'batch, error, message',
    [
        ([{'inputs': images_of(1)[0]}], TypeError, 'identity_collate'),
        ({'inputs': list(images_of(2))}, TypeError, 'ClsDataPreprocessor'),
        ({'inputs': images_of(2).float()}, ValueError, 'uint8'),
        ({'inputs': images_of(2)[0]}, ValueError, r'\(3, 32, 32\)'),
        ({'inputs': images_of(2)}, ValueError, "no 'indices'"),
        ({'inputs': images_of(2), 'indices': torch.arange(1)}, ValueError, '2 images but 1 ind'),
    ],
)
def test_bad_batches(batch, error, message):
    with pytest.raises(error, match=message):
        BatchPreprocessor(crop_padding=4)(batch, training=True)
