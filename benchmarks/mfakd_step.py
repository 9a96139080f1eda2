"""(f) One MFAKD iteration and the teacher's forward, ResNet-32x4 to ResNet-8x4 on CIFAR-100."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, Row, alternate, ratio
from mmkdfuse.models import Classifier
from mmkdfuse.models.connectors.mbca import MBCAConnector
from mmkdfuse.models.methods import MFAKD
from mmkdfuse.models.teachers import Teacher
from mmkdfuse.structures import TapKeys, Taps

TITLE = 'MFAKD iteration and its teacher'

NUM_CLASSES = 100
SIDE = 32


def measure(options: Options) -> list[Row]:
    """Times forward, backward and step, and the teacher by itself."""
    torch.manual_seed(0)
    batch = 4 if options.short else 64
    width = dict(base_channels=8, stem_channels=8) if options.short else {}
    student, teacher = (dict(arch=arch, **width) for arch in ('resnet8x4', 'resnet32x4'))
    images = torch.randn(batch, 3, SIDE, SIDE, device=options.device)
    pair = f'resnet32x4 -> resnet8x4, batch {batch}'
    return [
        *_teacher(options, teacher, images),
        *_iterations(options, student, teacher, images, f'iteration, {pair}'),
        *_mixed(options, student, teacher, images, f'bf16 / float32 iteration, {pair}'),
    ]


def _teacher(options: Options, arch: dict, images: Tensor) -> list[Row]:
    teacher = Teacher(arch, NUM_CLASSES, SIDE).to(options.device)
    network = teacher.network

    def plain() -> Tensor:
        with torch.no_grad():
            return network(images)

    # What MFAKD reads.
    teacher.listen(_resolved(Taps(stages=-1), teacher))
    teacher.speed_up()
    last = images.contiguous(memory_format=torch.channels_last)
    timings = alternate(
        {
            'plain': plain,
            'contiguous': lambda: teacher(images),
            'channels-last': lambda: teacher(last),
        },
        options,
    )
    case = f'teacher, {len(images)} x {SIDE}x{SIDE} {{}} images / its plain eval forward'
    return [
        ratio(case.format(name), timings, name, 'plain', target='<= 0.77')
        for name in ('contiguous', 'channels-last')
    ]


def _iterations(
    options: Options, student: dict, teacher: dict, images: Tensor, case: str
) -> list[Row]:
    timings = alternate(
        {
            'plain': _plain_iteration(options, student, teacher, images),
            'contiguous': _iteration(options, student, teacher, images, False),
            'channels-last': _iteration(options, student, teacher, images, True),
        },
        options,
    )
    return [
        ratio(f'{case}: MFAKD, {name} / plain loop', timings, name, 'plain', target=target)
        for name, target in (('contiguous', None), ('channels-last', '<= 0.77'))
    ]


def _mixed(options: Options, student: dict, teacher: dict, images: Tensor, case: str) -> list[Row]:
    """Mixed precision; nothing where the device has no instructions for it."""
    if not options.on_gpu and not _has_bf16():
        return []
    timings = alternate(
        {
            'float32': _iteration(options, student, teacher, images, True),
            'bf16': _iteration(options, student, teacher, images, True, mixed=True),
        },
        options,
    )
    return [ratio(case, timings, 'bf16', 'float32', target='<= 0.59')]


def _has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _iteration(
    options: Options,
    student: dict,
    teacher: dict,
    images: Tensor,
    channels_last: bool,
    mixed: bool = False,
) -> Callable[[], None]:
    """What the runner calls in every iteration."""
    model = MFAKD(
        student,
        teacher,
        NUM_CLASSES,
        SIDE,
        data_preprocessor=dict(type='mmkdfuse.BatchPreprocessor', channels_last=channels_last),
    )
    model.to(options.device).train()
    for each in model.teachers:
        each.speed_up()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(images), device=images.device) % NUM_CLASSES
    step = _step(model.parameters())

    def iterate() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            loss, _ = model.parse_losses(model(images, labels, mode='loss'))
        step(loss)

    return iterate


def _plain_iteration(
    options: Options, student: dict, teacher: dict, images: Tensor
) -> Callable[[], None]:
    """The same arithmetic without this package's steps to save time, as the released code."""
    taught, teaching = (Classifier(arch, NUM_CLASSES, SIDE) for arch in (student, teacher))
    connector = MBCAConnector(taught.stage_shapes[-1][0], teaching.stage_shapes[-1][0])
    modules = nn.ModuleList([taught, connector]).to(options.device).train()
    teaching.to(options.device).eval()
    step = _step(modules.parameters())
    read = [_resolved(Taps(stages=-1, logits='main'), each) for each in (taught, teaching)]

    def iterate() -> None:
        with torch.no_grad():
            goal = teaching.run(images, read[1]).stage(-1)
        own = taught.run(images, read[0]).stage(-1)
        step(F.mse_loss(connector(own, (goal.shape[2], goal.shape[3])), goal))

    return iterate


def _resolved(taps: Taps, network: Classifier | Teacher) -> TapKeys:
    return taps.resolved(len(network.stage_shapes), network.head_names, 'benchmark')


def _step(parameters) -> Callable[[Tensor], None]:
    """Backward and update, as configured for MFAKD."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
