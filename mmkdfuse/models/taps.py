"""Maps of a stage before and after its activation, and the norm that precedes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdfuse.models.probe import dry_run, stage_maps
from mmkdfuse.structures import AFTER, BEFORE, stage_key

_ACTIVATIONS = ('torch.nn.modules.activation', 'mmcv.cnn.bricks')
_NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax)
# What may stand between an activation and the end of its stage.
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True)
class Spot:
    """Place of a stage's map before its activation.

    Attributes:
        stage: The stage, from 1.
        module: Name of the module at whose input, or output, the map stands; None: the stage's own
            map is linear.
        output: Whether it stands at the output.
        activation: Name of the activation, None where there is none.
        is_last: Whether the stage's map is the activation's output.
        norm: Name of the batch norm that precedes the activation, None where there is none.
        stages_needed: Number of stages, from the first, that must run to reach it.
    """

    stage: int
    module: str | None
    output: bool = False
    activation: str | None = None
    is_last: bool = False
    norm: str | None = None
    stages_needed: int = 0


@dataclass(frozen=True)
class _Call:
    """One call of a module without children in a forward pass."""

    name: str
    module: nn.Module
    given: Tensor
    given_node: Any  # its place in the graph, before an in-place operation changes it
    made: Tensor
    made_node: Any


class _Kept(dict[str, Tensor]):
    """Maps of the last forward pass by key; a copy of the network starts without."""

    def __deepcopy__(self, memo: dict) -> _Kept:
        return _Kept()


@dataclass
class _Recorder:
    """Hook that keeps the input or the output of the last call of a module."""

    kept: dict[str, Tensor]
    key: str
    output: bool

    def __call__(self, module: nn.Module, args: tuple, made: Any = None) -> None:
        self.kept[self.key] = made if self.output else args[0]


@dataclass
class ActivationTaps:
    """Reader of the maps around a backbone's activations while it runs.

    Args:
        backbone: Any network that takes (N, C, H, W) and returns stage maps.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        channels: Channels of the images.

    Attributes:
        spots: Place of every stage's map before its activation, found by one dry run; None where
            there is none.
        shapes: (C, H, W) of the maps by key.

    Example:
        >>> from mmkdfuse.models.networks import network_config
        >>> from mmkdfuse.registry import MODELS
        >>> wrn = MODELS.build(network_config('wrn16_2')['backbone'])
        >>> ActivationTaps(wrn, 32).spots[0].norm  # of the next stage's first block
        'layer2.0.bn1'
    """

    backbone: nn.Module
    image_size: int | Sequence[int]
    channels: int = 3
    spots: list[Spot | None] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kept = _Kept()
        self._recorded: set[str] = set()
        calls, maps = _trace(self.backbone, self.image_size, self.channels)
        for number, stage_map in enumerate(maps, start=1):
            spot, before = _find(number, stage_map, calls)
            self.spots.append(spot)
            if before is not None:
                for at in (BEFORE, AFTER):
                    self.shapes[stage_key(number, at)] = tuple(before.shape[1:])
                if spot is not None and (spot.is_last or spot.activation is None):
                    self.shapes[stage_key(number, AFTER)] = tuple(stage_map.shape[1:])

    def spot(self, stage: int) -> Spot:
        """Return where a stage's map stands before its activation.

        Raises:
            ValueError: If the stage does not end in an activation that is a module, nor in a map
                that the next block normalises.
        """
        found = self.spots[stage - 1]
        if found is None:
            raise ValueError(
                f'backbone {type(self.backbone).__name__}: the map of stage {stage} is not made by '
                'an activation module, so that there is no map before or after one; read `stages` '
                'instead.'
            )
        return found

    def record(self, keys: Iterable[str]) -> None:
        """Keep the maps of these keys in every forward pass from now on.

        Raises:
            ValueError: As :meth:`spot`.
        """
        for key in keys:
            stage, _, at = key.removeprefix('stage').partition('.')
            if f'.{at}' not in (BEFORE, AFTER):
                continue
            spot = self.spot(int(stage))
            name = stage_key(spot.stage, BEFORE)
            if name in self._recorded or spot.module is None:
                continue
            self._recorded.add(name)
            module = self.backbone.get_submodule(spot.module)
            recorder = _Recorder(self._kept, name, spot.output)
            if spot.output:
                module.register_forward_hook(recorder)
            else:
                module.register_forward_pre_hook(recorder)
            if spot.activation is not None:
                # It would overwrite what is kept.
                activation: Any = self.backbone.get_submodule(spot.activation)
                if hasattr(activation, 'inplace'):
                    activation.inplace = False

    def take(self, keys: Iterable[str], maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the maps of these keys of the forward pass that just ran, and let go of them.

        Args:
            keys: Those that were named to :meth:`record`; others are left out.
            maps: The stage maps that the backbone returned.
        """
        found = {}
        for key in keys:
            stage, _, at = key.removeprefix('stage').partition('.')
            if f'.{at}' not in (BEFORE, AFTER):
                continue
            spot = self.spot(int(stage))
            stage_map = maps[spot.stage - 1]
            if spot.activation is None or (f'.{at}' == AFTER and spot.is_last):
                found[key] = stage_map
                continue
            before = self._kept[stage_key(spot.stage, BEFORE)]
            if f'.{at}' == AFTER:
                # Not called: its hooks keep what the backbone gave it.
                before = self.backbone.get_submodule(spot.activation).forward(before)
            found[key] = before
        self._kept.clear()
        return found

    def norm(self, stage: int) -> nn.Module | None:
        """Return the batch norm that precedes a stage's activation, None where none does."""
        name = self.spot(stage).norm
        return None if name is None else self.backbone.get_submodule(name)


def _trace(
    backbone: nn.Module, image_size: int | Sequence[int], channels: int
) -> tuple[list[_Call], tuple[Tensor, ...]]:
    """Run a backbone once and return its calls of modules without children, and its maps."""
    calls: list[_Call] = []
    nodes: list[Any] = []
    names = {
        module: name for name, module in backbone.named_modules() if not any(module.children())
    }

    def enter(module: nn.Module, args: tuple) -> None:
        nodes.append(args[0].grad_fn if args and isinstance(args[0], Tensor) else None)

    def leave(module: nn.Module, args: tuple, made: Any) -> None:
        node = nodes.pop()
        if args and isinstance(args[0], Tensor) and isinstance(made, Tensor):
            calls.append(_Call(names[module], module, args[0], node, made, made.grad_fn))

    hooks = []
    for module in names:
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        maps = stage_maps(dry_run(backbone, image_size, channels, gradients=True), backbone)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, maps


def _find(stage: int, stage_map: Tensor, calls: list[_Call]) -> tuple[Spot | None, Tensor | None]:
    """Find the activation that a stage ends in, and the map before it."""
    last = {call.name: index for index, call in enumerate(calls)}
    x, is_last = stage_map, True
    index = _producer(x, calls, len(calls))
    while index is not None:
        call = calls[index]
        if is_activation(call.module):
            if last[call.name] != index:  # a module that is called again later
                break
            norm = _norm_before(call, calls[:index])
            return (
                Spot(stage, call.name, False, call.name, is_last, norm, stage),
                call.given,
            )
        if isinstance(call.module, _BatchNorm) and is_last:
            return Spot(stage, None, stages_needed=stage), stage_map
        if not isinstance(call.module, _POOLS):
            break
        x, is_last = call.given, False
        index = _producer(x, calls, index)
    consumer = _next_norm(stage_map, calls)
    found = _after_norm(stage, consumer, calls) if consumer is not None else None
    return found or (None, None)


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an elementwise activation function."""
    home = type(module).__module__
    if isinstance(module, _NO_ACTIVATIONS) or any(module.children()):
        return False
    if home == _ACTIVATIONS[0]:
        return True
    return home.startswith(_ACTIVATIONS[1]) and home.rpartition('.')[2] in (
        'activation',
        'hsigmoid',
        'hswish',
        'swish',
    )


def _producer(x: Tensor, calls: list[_Call], end: int) -> int | None:
    """Index of the last call before ``end`` that computed this very tensor."""
    for index in reversed(range(end)):
        call = calls[index]
        # Others hand on what they were given, as what stands in place of unneeded layers does.
        if call.made is x and call.made_node is not call.given_node:
            return index
    return None


def _next_norm(x: Tensor, calls: list[_Call]) -> int | None:
    """Index of the batch norm that is the first to take this very tensor."""
    index = next(
        (i for i, call in enumerate(calls) if call.given is x and call.made is not x), None
    )
    return index if index is not None and isinstance(calls[index].module, _BatchNorm) else None


def _after_norm(
    stage: int, index: int, calls: list[_Call]
) -> tuple[Spot | None, Tensor | None] | None:
    """Return the spot behind a batch norm that an activation follows."""
    norm = calls[index]
    follower = next((call for call in calls[index + 1 :] if call.given is norm.made), None)
    if follower is None or not is_activation(follower.module):
        return None
    spot = Spot(stage, norm.name, True, follower.name, False, norm.name, stage + 1)
    return spot, norm.made


def _norm_before(activation: _Call, calls: list[_Call]) -> str | None:
    """Name of the batch norm that an activation takes, or that a sum which it takes starts with."""
    norms = {call.made_node: call.name for call in calls if isinstance(call.module, _BatchNorm)}
    norms.pop(None, None)
    node = activation.given_node
    if node in norms:
        return norms[node]
    if node is not None and 'Add' in type(node).__name__:
        # The path of the block, not its shortcut: more was computed for it.
        operands = [source for source, _ in node.next_functions if source is not None]
        return norms.get(max(operands, key=_count_sources, default=None))
    return None


def _count_sources(node: Any) -> int:
    """Number of operations that a place in the graph depends on."""
    seen, waiting = {node}, [node]
    while waiting:
        sources = {source for source, _ in waiting.pop().next_functions if source is not None}
        waiting.extend(sources - seen)
        seen |= sources
    return len(seen)
