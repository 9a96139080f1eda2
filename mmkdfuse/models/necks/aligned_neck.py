"""From a student's last map to what a teacher's classifier reads."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.models.necks.multi_branch_neck import pool
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class AlignedNeck(BaseModule):
    """A connector, then what the teacher has between its last map and its classifier.

    Args:
        student_shape: (C_s, H_s, W_s) of the student's last map for the probed image size.
        teacher_shape: (C_t, H_t, W_t) of the teacher's.
        connector: Config of the connector, e.g. ``dict(type='MBCAConnector')``; channels and scale
            are filled in.
        teacher_neck: What follows, a module or a config; None for global average pooling.
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
        self.connector = MODELS.build(
            {
                **connector,
                'in_channels': student_shape[0],
                'out_channels': teacher_shape[0],
                'scale': max(
                    teacher_shape[1] / student_shape[1], teacher_shape[2] / student_shape[2]
                ),
            }
        )
        if isinstance(teacher_neck, dict):
            teacher_neck = MODELS.build(teacher_neck)
        self.teacher_neck = teacher_neck

    def align(self, student_map: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return the aligned map, (N, C_t, H_t, W_t).

        Args:
            student_map: (N, C_s, H_s, W_s).
            size: (H_t, W_t); default in the ratio of the probed sizes, without a teacher at hand.
        """
        if size is None:
            sides = zip(student_map.shape[2:], self.teacher_shape[1:], self.student_shape[1:])
            height, width = (max(1, round(now * goal / side)) for now, goal, side in sides)
            size = (height, width)
        return self.connector(student_map, size)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the feature that the teacher's classifier reads, (N, D), from the last map."""
        aligned = self.align(maps[-1])
        if self.teacher_neck is None:
            return (pool(aligned),)
        return tuple(self.teacher_neck((aligned,)))
