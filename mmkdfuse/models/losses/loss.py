"""Base class of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmkdfuse.structures import NetworkInfo, NetworkOutput, Reads, Step, TrainingSet


class Loss(BaseModule):
    """Base class of losses.

    A loss has three duties. Its constructor names its inputs (:attr:`reads`); :meth:`connect`
    builds and checks its adapters from measured shapes; :meth:`terms` returns its weighted terms of
    one step. It knows no config file, no runner and no model class, and reads no global state.

    Args:
        weight: Factor of its terms, >= 0. A loss of weight 0 is left out of training.
        warmup_epochs: Epochs over which the weight grows, min((epoch + 1) / warmup_epochs, 1); 0
            for the whole weight from the start.
        init_cfg: Initialisation of mmengine.

    Attributes:
        reads: Its inputs of a step; set by the subclass's constructor.
        memories: Tensors that belong to this process alone, by name (:meth:`add_memory`).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> class LogitDistance(Loss):
        ...     def __init__(self, weight=1.0, **kwargs):
        ...         super().__init__(weight, **kwargs)
        ...         self.reads = Reads(student=Taps(logits='main'), teacher=Taps(logits='main'))
        ...     def terms(self, step):
        ...         distance = (step.student.logits - step.teachers[0].logits).square().mean()
        ...         return dict(loss_distance=self.weight_at(step) * distance)
        >>> from mmkdfuse.structures import Taps
        >>> LogitDistance(weight=2.0).reads.teacher.logits
        'main'
    """

    reads: Reads = Reads()

    def __init__(
        self,
        weight: float = 1.0,
        warmup_epochs: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        name = type(self).__name__
        if not isinstance(weight, (int, float)) or not weight >= 0:
            raise ValueError(f'{name}: weight={weight!r} must be a number >= 0.')
        if not isinstance(warmup_epochs, int) or warmup_epochs < 0:
            raise ValueError(f'{name}: warmup_epochs={warmup_epochs!r} must be an integer >= 0.')
        self.memories: dict[str, Tensor] = {}
        self.weight = weight
        self.warmup_epochs = warmup_epochs

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Build and check adapters; called once, when the model is built.

        Args:
            student: Measured facts about the student.
            teachers: The same of every teacher.

        Raises:
            ValueError: If the networks do not fit this loss.
        """

    def see_dataset(self, dataset: TrainingSet) -> None:
        """Prepare for a training set, if :attr:`reads` name it; called before the first step."""

    @property
    def needs_observation(self) -> bool:
        """Whether it has yet to observe the teachers' outputs on the training set."""
        return False

    def observe(self, teachers: Sequence[NetworkOutput]) -> None:
        """Take in the teachers' outputs on some training images, before the first step."""

    def conclude(self) -> None:
        """End the observation; all processes call it."""

    def diagnose(self, step: Step) -> Mapping[str, Tensor]:
        """Return scalars on its progress, by name, for reports; none by default."""
        return {}

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return the weighted terms by name, each a scalar; those that are optimised are
        ``loss_*``.

        Args:
            step: The tensors of :attr:`reads`, with targets, indices and epoch.
        """
        raise NotImplementedError

    def weight_at(self, step: Step) -> float:
        """Weight in this step, with warm-up."""
        return self.weight * self.growth_at(step)

    def growth_at(self, step: Step) -> float:
        """Share of the weight that warm-up has reached, in (0, 1]."""
        return min((step.epoch + 1) / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0

    def add_memory(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor that belongs to this process alone, such as a bank of features.

        It stands in :attr:`memories`, moves with the model, and is saved for a resume, one for
        every process. It is no part of the state dict, and no average over processes or of weights
        changes it.

        Args:
            name: Its name.
            tensor: First value.
        """
        self.memories[name] = tensor

    def _apply(self, fn, *args, **kwargs):
        for name, tensor in self.memories.items():
            self.memories[name] = fn(tensor)
        return super()._apply(fn, *args, **kwargs)
