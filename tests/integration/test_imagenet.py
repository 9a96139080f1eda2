"""The ImageNet configs on real files of varying size: what is missing, training, scoring."""

import numpy as np
import pytest
from PIL import Image

import mmkdfuse
from mmkdfuse.engine.launch import load_config
from mmkdfuse.engine.preflight import ConfigError, preflight

CLASSES = ['n01', 'n02', 'n03', 'n04', 'n05']  # top-5 accuracy needs five
NARROW = dict(base_channels=4, stem_channels=4)


def write_split(folder, per_class):
    """Class folders from dark to bright images: JPEG and PNG, colour and grey."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = generator.integers(40, 120, 2)
            shape = (height, width) if number % 3 == 2 else (height, width, 3)
            pixels = generator.integers(50 * label, 50 * label + 50, shape, dtype=np.uint8)
            ending = 'png' if number % 2 else 'JPEG'
            Image.fromarray(pixels).save(folder / name / f'{number}.{ending}')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """train: four images a class; val: two images a class."""
    folder = tmp_path_factory.mktemp('imagenet')
    write_split(folder / 'train', 4)
    write_split(folder / 'val', 2)
    return folder


def small(name, data_root, **model):
    """A config with its pipeline and schedule, for five classes at 64x64 and two epochs."""
    cfg = load_config(name)
    cfg.model.update(num_classes=5, image_size=64, **model)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(data_root), metainfo=dict(classes=CLASSES))
        sizes = dict(RandomResizedCrop='scale', ResizeEdge='scale', CenterCrop='crop_size')
        for step in loader.dataset.pipeline:
            if step.type in sizes:
                step[sizes[step.type]] = 64
    cfg.train_cfg.max_epochs = 2
    return cfg


@pytest.mark.filterwarnings('ignore')
def test_self_distillation_learns_from_files(root, tmp_path):
    backbone = dict(arch='resnet50_in', **NARROW)
    cfg = small('kfmsd/resnet50_imagenet', root, backbone=backbone)
    report = preflight(cfg)
    assert report.images == dict(train=20, val=10, test=10)
    assert report.input_shape == (3, 64, 64)
    metrics = mmkdfuse.train(cfg, work_dir=tmp_path)
    assert set(metrics) >= {'branch1/top1', 'branch4/top1', 'main/top1', 'ensemble/top1'}
    assert all(0 <= value <= 100 for value in metrics.values())
    again = mmkdfuse.test(cfg, tmp_path / 'epoch_2.pth', work_dir=tmp_path / 'test')
    assert again == pytest.approx({key: metrics[key] for key in again})


@pytest.mark.filterwarnings('ignore')
def test_teacher_then_student_on_files(root, tmp_path):
    arch = dict(arch='resnet34_in', **NARROW)
    mmkdfuse.train(small('teacher/resnet34_imagenet', root, backbone=arch), work_dir=tmp_path / 't')
    cfg = small(
        'mfakd/resnet34_resnet18_imagenet',
        root,
        teacher=dict(**arch, checkpoint=str(tmp_path / 't' / 'epoch_2.pth')),
        verify_teacher=False,  # it has seen ten batches
    )
    cfg.model.student.update(NARROW)
    metrics = mmkdfuse.train(cfg, work_dir=tmp_path / 's')
    assert 0 <= metrics['accuracy/top1'] <= 100
    assert (tmp_path / 's' / 'epoch_2.pth').is_file()


def mistakes(cfg, **kwargs):
    with pytest.raises(ConfigError) as caught:
        preflight(cfg, **kwargs)
    return caught.value.mistakes


@pytest.mark.filterwarnings('ignore')
def test_missing_data_are_named(root, tmp_path):
    backbone = dict(arch='resnet50_in', **NARROW)
    nothing = mistakes(small('kfmsd/resnet50_imagenet', tmp_path / 'none', backbone=backbone))
    assert len(nothing) == 2
    for split, mistake in zip(('train', 'val'), nothing, strict=True):
        assert mistake.startswith(f'`{split}_dataloader.dataset.data_root` = ')
        assert str(tmp_path / 'none' / split) in mistake
    # The official archive of the validation images has no class folders.
    (tmp_path / 'flat' / 'val').mkdir(parents=True)
    (tmp_path / 'flat' / 'train').symlink_to(root / 'train')
    Image.new('RGB', (9, 9)).save(tmp_path / 'flat' / 'val' / '1.JPEG')
    (flat,) = mistakes(small('kfmsd/resnet50_imagenet', tmp_path / 'flat', backbone=backbone))
    assert flat.startswith('`val_dataloader`: ') and 'subfolders (0)' in flat


@pytest.mark.filterwarnings('ignore')
def test_missing_teacher_is_named_with_the_way_to_get_it(root):
    cfg = small('mfakd/resnet34_resnet18_imagenet', root)
    (mistake,) = mistakes(cfg, training=True)
    assert "'work_dirs/teacher/resnet34_imagenet/epoch_100.pth' does not exist" in mistake
    assert 'tools/train.py configs/teacher/resnet34_imagenet.py`' in mistake
    assert 'tools/convert_checkpoint.py' in mistake
