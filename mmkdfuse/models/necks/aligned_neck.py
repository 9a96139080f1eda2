"""Path from a student's last map to the feature that a teacher's classifier reads."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.necks.multi_branch_neck import pool
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class AlignedNeck(BaseModule):
    """A connector, then the teacher's neck between its last map and its classifier.

    Args:
        student_shape: (C_s, H_s, W_s) of the student's last map for the probed image size.
        teacher_shape: (C_t, H_t, W_t) of the teacher's.
        connector: Config of the connector, e.g. ``dict(type='MBCAConnector')``; channels and scale
            are filled in.
        teacher_neck: The teacher's neck, a module or a config; None for global average pooling.

    Example:
        >>> import torch
        >>> neck = AlignedNeck((8, 4, 4), (16, 8, 8), dict(type='mmkdfuse.MBCAConnector'))
        >>> neck([torch.zeros(1, 8, 4, 4)])[0].shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        student_shape: StageShape,
        teacher_shape: StageShape,
        connector: dict,
        teacher_neck: nn.Module | dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.student_shape, self.teacher_shape = tuple(student_shape), tuple(teacher_shape)
        ratios = (teacher_shape[1] / student_shape[1], teacher_shape[2] / student_shape[2])
        self.connector = MODELS.build(
            filled_in(
                'connector',
                connector,
                'the maps of student and teacher',
                in_channels=student_shape[0],
                out_channels=teacher_shape[0],
                scale=max(ratios),
            )
        )
        built = MODELS.build(teacher_neck) if isinstance(teacher_neck, dict) else teacher_neck
        self.teacher_neck: nn.Module | None = built

    def align(self, student_map: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return the aligned map, (N, C_t, H_t, W_t).

        Args:
            student_map: (N, C_s, H_s, W_s).
            size: (H_t, W_t) of the teacher's map; default, where no teacher runs, the student's
                times the ratio of the probed sizes.
        """
        if size is None:
            shape, own, target = student_map.shape, self.student_shape, self.teacher_shape
            size = (
                _scaled(shape[2], target[1], own[1]),
                _scaled(shape[3], target[2], own[2]),
            )
        return self.connector(student_map, size)

    def pool(self, aligned: Tensor) -> Tensor:
        """Return the feature that the teacher's classifier reads, (N, D), from the aligned map."""
        if self.teacher_neck is None:
            return pool(aligned)
        return self.teacher_neck((aligned,))[-1]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Return that feature, (N, D), from the student's last map."""
        return (self.pool(self.align(maps[-1])),)


def _scaled(side: int, target: int, own: int) -> int:
    """Return side * target / own, rounded, at least 1; in integers, so that it can be traced."""
    return max(1, (2 * side * target + own) // (2 * own))
