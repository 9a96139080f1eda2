"""A backbone that is run stage by stage, on fewer images every time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.models.inference.truncated_backbone import Skip, find_needs
from mmkdfuse.models.probe import relative_difference, trial_images

# Rounding depends on the number of images, with TF32 in the third digit; what went wrong shows in
# the first.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Unit:
    """A module whose calls are recorded.

    Attributes:
        stage: The first map that needs it, from 1; one more than there are if none does.
        outputs: How many values it returns, None if one that is no tuple.
    """

    stage: int
    outputs: int | None


class StagewiseBackbone:
    """A backbone that continues where it stopped, whatever its forward looks like.

    To go on from stage k, the backbone's forward is called again. The modules that have run before
    return what they returned then, and those that only deeper maps need hand their inputs on. These
    modules are the largest ones called by the backbone that belong to one stage. What a forward
    computes beside them (a pooling, an addition) is repeated.

    Whether a backbone allows this is tried on random images. If not, all of its stages are computed
    at once.

    Args:
        backbone: In eval mode; returns maps (N, C, H, W), shallow to deep.
        image_size: Side length or (height, width) of the trial's images, in pixels.
        stages: Number of maps.
    """

    def __init__(self, backbone: nn.Module, image_size: int | Sequence[int], stages: int) -> None:
        self.backbone = backbone
        self.stages = stages
        self._units: dict[str, _Unit] = {}
        self._fewer_outputs = False
        self._stagewise = self._prepare(image_size)

    @property
    def stagewise(self) -> bool:
        """Whether stages are computed one after another, not all at once."""
        return self._stagewise

    def start(self, images: Tensor) -> 'StageRun':
        """Begin with a batch (N, 3, H, W)."""
        return StageRun(self, images)

    def _prepare(self, image_size: int | Sequence[int]) -> bool:
        self._stagewise = True
        # Some backbones have a norm layer for every output and reshape to the output's size.
        indices = getattr(self.backbone, 'out_indices', None)
        countable = isinstance(indices, (tuple, list)) and len(indices) == self.stages
        for self._fewer_outputs in (True, False) if countable else (False,):
            try:
                self._units = self._find_units(image_size)
                if self._works(image_size):
                    return True
            except Exception:  # what a foreign forward raises is not foreseeable
                continue
        self._units, self._fewer_outputs = {}, False
        return False

    def _find_units(self, image_size: int | Sequence[int]) -> dict[str, _Unit]:
        needs = []
        for stages in range(1, self.stages + 1):
            # Gradients tell what depends on what, wherever this object is made.
            with self.returning(stages), torch.inference_mode(False), torch.enable_grad():
                needs.append(find_needs(self.backbone, image_size, stages))
        unneeded = [set(found.unneeded) for found in needs]
        # Modules of which only a part is needed are entered, not recorded.
        entered = {above for names in unneeded for name in names for above in _above(name)} | {''}
        units = {}
        for name, callers in needs[-1].callers.items():
            parameters = any(True for _ in self.backbone.get_submodule(name).parameters())
            if parameters and name not in entered and callers & entered:
                waits = [any(f'{name}.'.startswith(f'{cut}.') for cut in cuts) for cuts in unneeded]
                units[name] = _Unit(1 + sum(waits), needs[-1].outputs[name])
        return units

    @torch.no_grad()
    def _works(self, image_size: int | Sequence[int]) -> bool:
        """Compare with the plain forward, one image less at every stage."""
        images = trial_images(self.stages + 1, image_size, self.backbone)
        expected = [*self.backbone(images.clone())]
        run = self.start(images)
        for stages in range(1, self.stages + 1):
            found = run.maps(stages)
            if not all(map(_same, found, expected[:stages])):
                return False
            run.keep(torch.arange(1, len(found[0]), device=images.device))
            expected = [feature_map[1:] for feature_map in expected]
        return True

    @contextmanager
    def returning(self, stages: int) -> Iterator[None]:
        """Let the backbone return the first maps only, if it can."""
        if not self._fewer_outputs:
            yield
            return
        backbone: Any = self.backbone
        indices = backbone.out_indices
        backbone.out_indices = type(indices)(sorted(indices)[:stages])
        try:
            yield
        finally:
            backbone.out_indices = indices

    @contextmanager
    def intercepted(self, stages: int, records: dict[tuple[str, int], Any]) -> Iterator[None]:
        """Let recorded modules return what they returned before, and deeper ones do nothing.

        Args:
            stages: Number of maps that are wanted.
            records: What every call returned, by the module's name and the number of the call; new
                calls are added.
        """
        calls: Counter[str] = Counter()
        running = skipped = False

        def intercept(name: str, unit: _Unit, module: nn.Module) -> Callable:
            native, skip = module.forward, Skip(module, unit.outputs).forward

            def forward(*args: Any, **kwargs: Any) -> Any:
                nonlocal running, skipped
                if running:  # called by another of these modules
                    return native(*args, **kwargs)
                if unit.stage > stages:
                    skipped = True
                    return skip(*args, **kwargs)
                call = name, calls[name]
                calls[name] += 1
                if call in records:
                    return records[call]
                running = True
                try:
                    output = native(*args, **kwargs)
                finally:
                    running = False
                # Modules that return more than they take are never skipped, see `find_needs`:
                # behind a skipped one, such a module has run on inputs that mean nothing.
                if not skipped or len(args) >= (unit.outputs or 1):
                    records[call] = output
                return output

            return forward

        own = []
        try:
            for name, unit in self._units.items():
                module = self.backbone.get_submodule(name)
                own.append((module, vars(module).get('forward')))
                module.forward = intercept(name, unit, module)
            yield
        finally:
            for module, forward in own:
                vars(module).pop('forward', None)
                if forward is not None:
                    module.forward = forward


class StageRun:
    """One batch on its way through a backbone.

    Args:
        stages: The backbone.
        images: (N, 3, H, W).
    """

    def __init__(self, stages: StagewiseBackbone, images: Tensor) -> None:
        self._stages = stages
        self._images = images
        self._records: dict[tuple[str, int], Any] = {}
        self._maps: tuple[Tensor, ...] = ()

    @property
    def known(self) -> tuple[Tensor, ...]:
        """The maps that were computed so far, (N, C, H, W) each."""
        return self._maps

    def maps(self, stages: int) -> tuple[Tensor, ...]:
        """Return the first maps, (N, C, H, W) each, computing what is not known yet."""
        if len(self._maps) < stages:
            network = self._stages
            count = stages if network.stagewise else network.stages
            with network.returning(count), network.intercepted(count, self._records):
                self._maps = tuple(network.backbone(self._images))[:count]
        return self._maps[:stages]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the images.

        Args:
            rows: Their numbers in the batch, int64.
        """
        size = len(self._images)
        self._records = {
            call: _rows_of(output, rows, size) for call, output in self._records.items()
        }
        self._maps = _rows_of(self._maps, rows, size)
        self._images = self._images[rows]


def _above(name: str) -> Iterator[str]:
    """Names of the modules that a module is part of, the backbone's own first."""
    parts = name.split('.')
    return ('.'.join(parts[:count]) for count in range(len(parts)))


def _same(a: Tensor, b: Tensor) -> bool:
    return relative_difference(a, b) <= _TOLERANCE


def _rows_of(value: Any, rows: Tensor, size: int) -> Any:
    """Select images in what a module returned for a batch of ``size``."""
    if isinstance(value, Tensor):
        if value.ndim == 0 or len(value) != size:
            raise ValueError(f'a module returned {tuple(value.shape)}, expected {size} rows.')
        return value[rows]
    if isinstance(value, (tuple, list)):
        return type(value)(_rows_of(item, rows, size) for item in value)
    return value
