"""The task loss: every head's own loss of its logits and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkInfo, Reads, Step, Taps, head_named


@MODELS.register_module()
class ClassificationLoss(Loss):
    """Loss of the network's own head with the labels, for every head.

    It is the ``loss`` of the head's config (label smoothing, focal loss, class weights, ..), by
    default the cross-entropy, mean over the batch, in float32. Where the method makes several views
    of an image, the images themselves count. With ``cal_acc`` in the head's config the main head's
    accuracy is logged beside it.

    Terms: ``loss_ce_branch1`` .., ``loss_ce_main``.

    Args:
        weight: Factor of every head's loss, >= 0.
        heads: Heads that learn from the labels: ``'all'``, ``'main'`` or several names.
        head_weights: Factors of single heads that take the place of ``weight``.
        name: Name of the term of the main head, default ``loss_ce_main``.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from mmkdfuse.models import Classifier
        >>> smooth = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
        >>> head = dict(type='mmpretrain.LinearClsHead', loss=smooth)
        >>> model = Classifier(dict(arch='resnet18', base_channels=4), 10, 32, head=head)
        >>> list(model.losses)
        ['ClassificationLoss']
    """

    def __init__(
        self,
        weight: float = 1.0,
        heads: str | Sequence[str] = 'all',
        head_weights: Mapping[str, float] | None = None,
        name: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(weight, **kwargs)
        self.head_weights = dict(head_weights or {})
        for head, factor in self.head_weights.items():
            if not factor >= 0:
                raise ValueError(
                    f'ClassificationLoss: head_weights[{head!r}]={factor!r} must be >= 0.'
                )
        self.name = name
        self.reads = Reads(student=Taps(logits=heads), targets=True)

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Take over the loss of the student's head; check that options name heads that learn."""
        name = 'ClassificationLoss'
        learning = self.reads.student.resolved(len(student.stage_shapes), student.heads, name)
        self._weights = {
            head_named(head, student.heads, name): weight
            for head, weight in self.head_weights.items()
        }
        for option, heads in (
            ('head_weights', self._weights),
            ('name', [MAIN] if self.name else []),
        ):
            if not set(heads) <= set(learning.logits):
                raise ValueError(
                    f'{name}: {option}={getattr(self, option)!r} would be ignored for a head that '
                    f'does not learn, expected some of {learning.logits}.'
                )
        self._task_loss = student.task_loss

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return one term for every head."""
        assert step.targets is not None
        growth = self.growth_at(step)
        count = len(step.targets)
        last = list(step.student.head_logits)[-1]
        terms = {}
        for head, logits in step.student.head_logits.items():
            if step.num_views > 1:
                logits = logits[:count]
            name = self.name if head == MAIN and self.name else f'loss_ce_{head}'
            weight = growth * self._weights.get(head, self.weight)
            # A loss that counts labels must count them once.
            loss = self._task_loss if head == last else self._task_loss.apart
            terms[name] = weight * loss(logits, step.targets)
            if head == MAIN:
                terms.update(self._task_loss.accuracies(logits, step.targets))
        return terms


def with_task_loss(losses: Sequence[Loss | dict], weight: float = 1.0, **kwargs) -> list:
    """Return losses with the task loss in front, unless one of them is a task loss.

    Args:
        losses: Modules or configs.
        weight: Of the task loss.
        **kwargs: Further arguments of :class:`ClassificationLoss`.
    """
    if any(map(is_task_loss, losses)):
        return list(losses)
    return [ClassificationLoss(weight, **kwargs), *losses]


def is_task_loss(loss: Loss | dict) -> bool:
    """Whether a module or config is a :class:`ClassificationLoss`."""
    if isinstance(loss, dict):
        return str(loss.get('type')).rpartition('.')[2] == ClassificationLoss.__name__
    return isinstance(loss, ClassificationLoss)
