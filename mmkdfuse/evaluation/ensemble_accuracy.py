"""Accuracy of every branch, the main network and their ensemble."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmkdfuse.registry import METRICS

ENSEMBLES = ('logits', 'probabilities')


@METRICS.register_module()
class EnsembleAccuracy(BaseMetric):
    """Top-k accuracy, in percent, of every head and of the ensemble, in one pass.

    Logs ``branch1/top1`` .. ``branchM/top1``, ``main/top1`` (the same as branch M) and
    ``ensemble/top1``, and the same for every other k. The paper does not define its ensemble;
    default is the mean of the logits.

    Args:
        topk: The k's; a k above the class count counts the whole list and is 100.
        ensemble: ``'logits'`` (mean of the logits, taken from probabilities of 1e-38 or more) or
            ``'probabilities'`` (mean of the softmax).
        collect_device: Device on which results of several processes are gathered.
        prefix: Put before every name.

    Example:
        >>> import torch
        >>> from mmpretrain.structures import DataSample
        >>> sample = DataSample().set_gt_label(1)
        >>> sample.set_field(torch.tensor([[0.8, 0.2], [0.4, 0.6]]), 'branch_scores')
        >>> metric = EnsembleAccuracy(topk=1)
        >>> metric.process({}, [sample.to_dict()])
        >>> metric.evaluate(size=1)
        {'branch1/top1': 0.0, 'branch2/top1': 100.0, 'main/top1': 100.0, 'ensemble/top1': 0.0}
    """

    default_prefix = ''

    def __init__(
        self,
        topk: int | Sequence[int] = (1, 5),
        ensemble: str = 'logits',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or any(not isinstance(k, int) or k < 1 for k in self.topk):
            raise ValueError(f'EnsembleAccuracy: topk={topk!r} must be positive integers.')
        if ensemble not in ENSEMBLES:
            raise ValueError(f'EnsembleAccuracy: ensemble={ensemble!r} must be in {ENSEMBLES}.')
        self.ensemble = ensemble

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Store one row of hits per image, so that gathering over processes stays exact."""
        if 'branch_scores' not in data_samples[0]:
            raise ValueError(
                'EnsembleAccuracy: predictions carry no branch_scores; use it with KFMSD, '
                "and `val_evaluator=dict(type='Accuracy')` with a single network."
            )
        scores = torch.stack([sample['branch_scores'] for sample in data_samples])
        labels = torch.cat([sample['gt_label'] for sample in data_samples])
        self.results.extend(self._hits(scores, labels).cpu().unbind())

    def _hits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return hits (N, M+1, number of k's), the ensemble's last.

        Args:
            scores: Probabilities of every head, (N, M, K).
            labels: (N,).
        """
        if self.ensemble == 'logits':
            # log-probabilities differ from logits by a constant per head: same order of classes
            merged = scores.clamp_min(torch.finfo(scores.dtype).tiny).log().mean(dim=1)
        else:
            merged = scores.mean(dim=1)
        scores = torch.cat([scores, merged[:, None]], dim=1)
        classes = scores.shape[-1]
        ranked = scores.topk(min(max(self.topk), classes), dim=-1).indices
        found = ranked == labels[:, None, None].to(ranked.device)
        return torch.stack([found[..., :k].any(dim=-1) for k in self.topk], dim=-1)

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Return the accuracies of all images."""
        *heads, ensemble = (torch.stack(results).double().mean(dim=0) * 100).tolist()
        names = [*(f'branch{number}' for number in range(1, len(heads) + 1)), 'main', 'ensemble']
        rows = [*heads, heads[-1], ensemble]
        return {
            f'{name}/top{k}': value
            for name, row in zip(names, rows, strict=True)
            for k, value in zip(self.topk, row, strict=True)
        }
