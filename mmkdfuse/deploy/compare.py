"""What a deployed network is compared with, in parameters, MACs and time."""

from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.models.distillers.mfakd import MFAKD
from mmkdfuse.models.teacher import resolve_network

CONNECTOR = 'connector'


class Alignment(nn.Module):
    """Nothing but the connectors of an MFAKD model, on a map that is at hand.

    Takes images, as networks do, and reads only how many there are.
    """

    student_map: Tensor

    def __init__(self, model: MFAKD) -> None:
        super().__init__()
        self.connectors = nn.ModuleList(path.connector for path in model.paths)
        self.sizes = [path.teacher_shape[1:] for path in model.paths]
        self.register_buffer('student_map', torch.zeros(1, *model.stage_shapes[-1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the aligned maps of as many maps as there are images."""
        maps = self.student_map.expand(len(images), -1, -1, -1)
        pairs = zip(self.connectors, self.sizes, strict=True)
        return [connector(maps, size) for connector, size in pairs]


def networks_to_compare(model: Any, cfg: dict, head: str) -> dict[str, nn.Module]:
    """Return the networks whose costs are shown above the deployed one's.

    Args:
        model: The trained model.
        cfg: The config it was built from.
        head: What is deployed.
    """
    if isinstance(model, Distiller):
        teachers = model.teachers
        names = ['teacher'] if len(teachers) == 1 else [f'teacher {t.name}' for t in teachers]
        networks: dict[str, nn.Module] = {
            name: teacher.network for name, teacher in zip(names, teachers, strict=True)
        }
        if isinstance(model, MFAKD):
            # With its own classifier, which the method does not build.
            spec = resolve_network(cfg['student'])
            alone = Classifier(spec.backbone, model.num_classes, model.image_size, head=spec.head)
            networks |= {'student alone': alone.deployed(), CONNECTOR: Alignment(model)}
        return networks
    networks = {'trained model': model, 'main network': model.deployed()}
    if head == 'main':  # the same network
        del networks['main network']
    return networks
