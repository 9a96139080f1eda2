"""Images that need no file, for parts that run whole configs."""

import torch

from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.registry import DATASETS


@DATASETS.register_module(name='BenchmarkImages')
class RandomImages(StoreDataset):
    """Noise with labels 0, 1, .., K-1, 0, ..; served as every dataset held in memory.

    Args:
        images: N.
        num_classes: K.
        image_size: Side length in pixels.
    """

    def __init__(self, images: int, num_classes: int, image_size: int = 32) -> None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (images, 3, image_size, image_size), generator=generator)
        arrays = (pixels.byte().numpy(), (torch.arange(images) % num_classes).numpy())
        classes = [str(label) for label in range(num_classes)]
        super().__init__(classes=classes, read=lambda: arrays)


def random_images(images: int, num_classes: int, image_size: int = 32) -> dict:
    """Config of :class:`RandomImages`, in place of another dataset's."""
    return dict(
        _delete_=True,
        type='BenchmarkImages',
        images=images,
        num_classes=num_classes,
        image_size=image_size,
    )
