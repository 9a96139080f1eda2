"""(e) One training iteration of KFMSD beside a bare loop over the same modules."""

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from benchmarks.measure import Options, Row, alternate, ratio
from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models import KFMSD, Classifier

TITLE = 'iteration of KFMSD (forward, losses, backward, SGD) / bare loop'

NUM_CLASSES = 100
IMAGE_SIZE = 32
GAMMA, DELTA, TAU = 0.7, 0.03, 3.0
NARROW = dict(arch='resnet18', base_channels=4, stem_channels=4)


def backbone_of(options: Options) -> str | dict:
    """ResNet18 of full width; a narrow one in short runs."""
    return NARROW if options.short else 'resnet18'


def batch_of(options: Options) -> tuple[Tensor, Tensor]:
    """Images and labels: 128 on a GPU, as trained; 32 on a CPU, where 128 take many seconds."""
    images = 128 if options.on_gpu else 32
    if options.short:
        images = 8
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(images, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    labels = torch.randint(NUM_CLASSES, (images,), generator=generator)
    return inputs.to(options.device), labels.to(options.device)


def build_kfmsd(options: Options) -> KFMSD:
    """The network with the paper's losses, in training mode."""
    torch.manual_seed(0)
    model = KFMSD(backbone_of(options), NUM_CLASSES, IMAGE_SIZE, gamma=GAMMA, delta=DELTA)
    return model.to(options.device).train()


def iteration(model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """One iteration as the Runner runs it, without loading and preprocessing."""
    optimiser = OptimWrapper(_sgd(model))

    def step() -> Tensor:
        loss, _ = model.parse_losses(model(inputs, labels, mode='loss'))
        optimiser.update_params(loss)
        return loss.detach()

    return step


def bare_iteration(model: KFMSD, inputs: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """The same with the modules called by hand and eqs. 8-10 written out."""
    optimiser = _sgd(model)

    def step() -> Tensor:
        features = model.neck(model.backbone(inputs))
        logits = model.head(features)
        loss = written_out_loss(features, logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def written_out_loss(
    features: tuple[Tensor, ...] | list[Tensor], logits: list[Tensor], labels: Tensor
) -> Tensor:
    """Eq. 10: cross-entropies, eq. 8 with detached targets, eq. 9 averaged over the features."""
    main, main_feature = F.log_softmax(logits[-1] / TAU, dim=1), features[-1]
    loss = (1 - GAMMA) * F.cross_entropy(logits[-1], labels)
    for branch_logits, feature in zip(logits[:-1], features[:-1], strict=True):
        branch = F.log_softmax(branch_logits / TAU, dim=1)
        mutual = F.kl_div(branch, main.detach(), reduction='batchmean', log_target=True)
        mutual = mutual + F.kl_div(main, branch.detach(), reduction='batchmean', log_target=True)
        loss = loss + (1 - GAMMA) * F.cross_entropy(branch_logits, labels)
        loss = loss + GAMMA * mutual + DELTA * F.mse_loss(main_feature, feature.detach())
    return loss


def measure(options: Options) -> list[Row]:
    """Times KFMSD against the bare loop and against the network without branches."""
    inputs, labels = batch_of(options)
    model = build_kfmsd(options)
    plain = Classifier(backbone_of(options), NUM_CLASSES, IMAGE_SIZE)
    plain = plain.to(options.device).train()
    calls = {
        'KFMSD': iteration(deepcopy(model), inputs, labels),
        'bare loop': bare_iteration(deepcopy(model), inputs, labels),
        'plain network': iteration(plain, inputs, labels),
    }
    ours, theirs = calls['KFMSD'](), calls['bare loop']()
    timings = alternate(calls, options)
    image = (3, IMAGE_SIZE, IMAGE_SIZE)
    macs, plain_macs = (count_cost(network, image).macs for network in (model, plain))
    name = f'ResNet18, {len(inputs)} images'
    beside = ratio(f'KFMSD / plain network, {name}', timings, 'KFMSD', 'plain network')
    return [
        ratio(f'KFMSD / bare loop, {name}', timings, 'KFMSD', 'bare loop', target='<= 1.05'),
        Row(
            'relative difference of the losses of KFMSD and bare loop',
            (abs(ours - theirs) / theirs).item(),
            unit='',
            target='<= 1e-6',
        ),
        beside,
        Row(
            'MACs of KFMSD / plain network',
            macs / plain_macs,
            details={'KFMSD M MACs': macs / 1e6, 'plain M MACs': plain_macs / 1e6},
        ),
    ]


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
