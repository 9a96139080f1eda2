"""A single network, trained and scored on whole batches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.models.heads.branch_head import build_main_head
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.probe import freeze_unreached, probe_stages
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput

_POOLING = dict(type='mmpretrain.GlobalAveragePooling')


@MODELS.register_module()
class Classifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` without typed-in shapes, for whole batches.

    Channels of the classifier are read off the backbone by one dry run. A network by name comes
    with its own classifier and, where it has one, its last convolution. Labels may be one tensor
    instead of a list of samples, so that no Python object per image is made in training.

    Args:
        backbone: A network's name (``'resnet18'``), a name with changes
            (``dict(arch='resnet18', base_channels=16)``) or any mmpretrain backbone config.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels. Images of
            other sizes can be fed later.
        head: Config of the classifier; default the network's own, else one linear layer.
            ``num_classes`` and ``in_channels`` are filled in.
        data_preprocessor: Config; the runner fills in the top-level one.
        train_cfg: Batch augmentations of mmpretrain's ``ClsDataPreprocessor``.
        pretrained: Checkpoint to start from.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If the backbone is unknown or yields no (N, C, H, W) maps.
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        head: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes={num_classes!r} must be a positive integer.')
        network = network_config(backbone)
        body = MODELS.build(network['backbone'])
        self._stage_shapes = probe_stages(body, image_size)
        self._unreached = freeze_unreached(body, image_size)
        super().__init__(
            backbone=body,
            data_preprocessor=_build_preprocessor(data_preprocessor, train_cfg),
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        self.num_classes = num_classes
        self.image_size = image_size
        self._neck_of_network = network.get('neck')
        self._build_top(head or network.get('head'))
        if getattr(self.data_preprocessor, 'channels_last', False):
            # Weights laid out as the images are, so that no convolution converts one of them.
            self.to(memory_format=torch.channels_last)

    def _build_top(self, head: dict | None) -> None:
        """Add what stands on the backbone's stages."""
        channels = self.stage_shapes[-1][0]
        if self._neck_of_network:
            self.neck = MODELS.build({**self._neck_of_network, 'in_channels': channels})
            channels = self.neck.out_channels
        else:
            self.neck = MODELS.build(_POOLING)
        self.head = build_main_head(head, self.num_classes, channels)

    @property
    def stage_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of every stage for images of ``image_size``."""
        return self._stage_shapes

    def forward_network(self, inputs: Tensor) -> NetworkOutput:
        """Run the network once on (N, 3, H, W) images; every mode goes through here."""
        stages = tuple(self.backbone(inputs))
        features = self.neck(stages[-1:])
        return NetworkOutput(stages, tuple(features), (self.head(features),))

    def forward(
        self,
        inputs: Tensor,
        data_samples: Tensor | Sequence[DataSample] | None = None,
        mode: str = 'tensor',
        indices: Tensor | None = None,
    ):
        """Run the network in one of mmengine's modes.

        Args:
            inputs: Normalised images, (N, 3, H, W).
            data_samples: Labels (N,) int64, or one sample per image; needed in ``mode='loss'``.
            mode: ``'tensor'`` returns logits, ``'loss'`` a dict of scalar terms, ``'predict'`` a
                list of ``DataSample`` with ``pred_score`` and ``pred_label``.
            indices: Data-set indices (N,) int64, for methods that keep a memory per image.
        """
        output = self.forward_network(inputs)
        if mode == 'tensor':
            return self._tensor(output)
        if mode == 'loss':
            if data_samples is None:
                raise ValueError("data_samples=None: mode='loss' needs labels.")
            return self._losses(output, targets_of(data_samples))
        if mode == 'predict':
            return self._predict(output, data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'.")

    def loss(self, inputs: Tensor, data_samples: Tensor | Sequence[DataSample]) -> dict:
        """Terms of the loss; see :meth:`forward`."""
        return self(inputs, data_samples, mode='loss')

    def predict(self, inputs: Tensor, data_samples: Sequence[DataSample] | None = None, **kwargs):
        """Predictions; see :meth:`forward`."""
        return self(inputs, data_samples, mode='predict')

    def _tensor(self, output: NetworkOutput):
        return output.logits[-1]

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        return {'loss_ce_main': cross_entropy(output.logits[-1], targets)}

    def _predict(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        return make_predictions(output.logits[-1], data_samples)

    def deployed(self) -> ImageClassifier:
        """Return the plain mmpretrain classifier that ships, sharing this model's weights."""
        return plain_classifier(self.backbone, self.head, self.neck)

    def describe(self) -> list[str]:
        """Return what the dry run found, one line a fact."""
        shapes = ', '.join('x'.join(map(str, shape)) for shape in self.stage_shapes)
        lines = [f'stage shapes (C x H x W): {shapes}']
        if self._unreached:
            names = ', '.join(self._unreached)
            lines.append(f'frozen, because no stage depends on them: {names}')
        return lines


def _build_preprocessor(
    data_preprocessor: dict | nn.Module | None, train_cfg: dict | None
) -> nn.Module:
    if isinstance(data_preprocessor, nn.Module):
        return data_preprocessor
    cfg = dict(data_preprocessor or {})
    cfg.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    if train_cfg is not None:
        cfg.setdefault('batch_augments', train_cfg)
    return MODELS.build(cfg)


def plain_classifier(
    backbone: nn.Module, head: nn.Module, neck: nn.Module | None = None
) -> ImageClassifier:
    """Put a network together as mmpretrain would, sharing the weights.

    Args:
        backbone: Returns a tuple of maps.
        head: The classifier.
        neck: What stands in between; default global average pooling.
    """
    neck = neck or MODELS.build(_POOLING)
    model = ImageClassifier(backbone=backbone, neck=neck, head=head)
    return model.train(backbone.training)


def targets_of(data_samples: Tensor | Sequence[DataSample]) -> Tensor:
    """Return labels (N,) int64, or soft labels (N, K) where a batch augmentation mixed images."""
    if isinstance(data_samples, Tensor):
        return data_samples
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in float32, for labels (N,) or soft labels (N, K)."""
    return F.cross_entropy(logits.float(), targets)


def make_predictions(
    logits: Tensor,
    data_samples: Tensor | Sequence[DataSample] | None,
    branch_scores: Tensor | None = None,
) -> list[DataSample]:
    """Pack scores into one ``DataSample`` per image.

    Args:
        logits: Scores that decide ``pred_label``, (N, K).
        data_samples: Labels (N,), or samples to fill in, or None.
        branch_scores: Probabilities of every head, (N, M, K).
    """
    scores = F.softmax(logits.float(), dim=-1)
    labels = scores.argmax(dim=-1, keepdim=True)
    if data_samples is None or isinstance(data_samples, Tensor):
        samples = [DataSample() for _ in range(len(scores))]
        if isinstance(data_samples, Tensor):
            # Rows, not scalars, which DataSample would fetch from the device one by one.
            targets = data_samples.reshape(len(samples), -1).unbind()
            for sample, target in zip(samples, targets, strict=True):
                sample.set_gt_label(target)
    else:
        samples = list(data_samples)
    rows = zip(samples, scores.unbind(), labels.unbind(), strict=True)
    for index, (sample, score, label) in enumerate(rows):
        sample.set_pred_score(score).set_pred_label(label)
        if branch_scores is not None:
            sample.set_field(branch_scores[index], 'branch_scores', dtype=Tensor)
    return samples
