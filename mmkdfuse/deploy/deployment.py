"""From a trained model to a plain config and checkpoint of one of its heads."""

import copy
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmkdfuse.analysis.cost import Cost, count_cost
from mmkdfuse.analysis.latency import Latency, compare_latency
from mmkdfuse.checkpoint import load_file, load_strictly, write_atomically
from mmkdfuse.deploy.compare import CONNECTOR, networks_to_compare
from mmkdfuse.deploy.config import deployed_config
from mmkdfuse.deploy.plans import heads_of, logits_of, plan_head
from mmkdfuse.engine.launch import ConfigLike, build_model, load_config
from mmkdfuse.models.classifiers.folded import fold_network
from mmkdfuse.models.probe import as_size
from mmkdfuse.version import __version__

_TOLERANCE = 1e-5
_FOLDED_TOLERANCE = 1e-4
_TRIAL_IMAGES = 2


@dataclass(frozen=True)
class Deployed:
    """A head that was deployed.

    Attributes:
        head: Its name.
        config: The file that builds it.
        checkpoint: The file with its weights, ``{'meta', 'state_dict'}``.
        model: The network, in eval mode, as ``mmpretrain.get_model`` gives it.
        difference: Largest difference of its logits from the trained model's, relative to the
            largest logit.
        costs: Parameters and MACs of what it is compared with, by name, and of the deployed
            network, which comes last. Compared are the trained model and its main network, or
            teacher, student alone and connector.
        latencies: Their times, empty if they were not taken.
    """

    head: str
    config: Path
    checkpoint: Path
    model: nn.Module
    difference: float
    costs: dict[str, Cost]
    latencies: dict[str, Latency] = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = {name: [cost.parameters, cost.macs / 1e6] for name, cost in self.costs.items()}
        for name, latency in self.latencies.items():
            numbers[name].append(latency.milliseconds)
        titles = ['parameters', 'M MACs', 'ms'][: 3 if self.latencies else 2]
        lines = [''.join([f'{"":24}', *(f'{title:>16}' for title in titles)])]
        formats = ('{:,}', '{:,.1f}', '{:.2f}')
        deployed = list(numbers.values())[-1]
        for name, row in numbers.items():
            cells = [pattern.format(value) for pattern, value in zip(formats, row, strict=False)]
            lines.append(f'{name:24}' + ''.join(f'{cell:>16}' for cell in cells))
        *others, _ = numbers.items()
        for name, row in others:
            if name == CONNECTOR:  # a part of the deployed network
                continue
            shares = [f'{new / old - 1:+.1%}' for new, old in zip(deployed, row, strict=True)]
            line = f'{f"  beside {name}":24}' + ''.join(f'{share:>16}' for share in shares)
            lines.append(line)
        if self.latencies:
            lines.append(f'time: {list(self.latencies.values())[-1].conditions}')
        lines.append(f"logits differ from the trained model's by {self.difference:.1e} at most")
        return '\n'.join([*lines, f'config:     {self.config}', f'checkpoint: {self.checkpoint}'])


def deploy(
    config: ConfigLike,
    checkpoint: str | os.PathLike,
    head: str = 'main',
    *,
    fold: bool = False,
    out: str | os.PathLike | None = None,
    seconds: float = 1.0,
    device: str | torch.device = 'cpu',
    cfg_options: dict[str, Any] | None = None,
    **overrides: Any,
) -> Deployed:
    """Write a plain config and checkpoint of one head, all other heads gone.

    ``main`` is an ``ImageClassifier`` that mmpretrain loads alone where it has the backbone. A
    branch comes without the stages that it does not read; it, and ``ensemble``, the mean of all
    logits, need this package installed. A student with a teacher has ``main`` only; of MFAKD and
    SimKD that is student, connector and the teacher's classifier, and needs this package too. That
    the logits are those of the trained model is checked before anything is written.

    Args:
        config: Path of the config that was trained, a shipped one's name, or a loaded config.
        checkpoint: File whose keys must match the model's exactly.
        head: ``'main'``, ``'branch1'``, .. or ``'ensemble'``.
        fold: Fold batch norms into convolutions and merge the parallel projectors; needs this
            package installed.
        out: Folder of the two files ``<config name>_<head>.py`` and ``.pth``, ``<head>_folded``
            with ``fold``, which are replaced if they exist; default ``deployed`` beside the
            checkpoint.
        seconds: How long to time each network; 0 leaves times out.
        device: Where the times are taken.
        cfg_options: Changes with dotted keys, as in training.
        **overrides: Changes as nested values, as in training.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The model has no such head, or ``out`` would replace the checkpoint.
        RuntimeError: The checkpoint is of another network, or the logits differ.
    """
    if seconds < 0:
        raise ValueError(f'seconds={seconds} must not be negative.')
    cfg = load_config(config, cfg_options, **overrides)
    source = load_file(checkpoint)
    model: Any = build_model(cfg)
    heads = heads_of(model)
    if head not in heads:
        raise ValueError(
            f'head={head!r} must be one of {heads}, the heads of {type(model).__name__} that can '
            'be deployed.'
        )
    load_strictly(model, source.get('state_dict', source), f"checkpoint '{checkpoint}'")
    files = _files(cfg, Path(checkpoint), f'{head}_folded' if fold else head, out)
    # Weights in another memory format would round otherwise.
    model.eval().to(memory_format=torch.contiguous_format)
    plan = plan_head(model, cfg.model.to_dict(), head)
    written = deployed_config(plan.config, cfg, model.image_size)
    network = _build(written)
    state = _gather(plan.weights, network)
    load_strictly(network, state, f'what was trained of head {head!r}')
    difference = _compare(model, network, head, _TOLERANCE)
    unfolded = network
    if fold:
        # Folded beside it and loaded into what the written config builds.
        folded = copy.deepcopy(network)
        fold_network(folded, model.image_size)
        state = folded.state_dict()
        changes = dict(type='mmkdfuse.FoldedClassifier', image_size=model.image_size)
        written = deployed_config({**plan.config, **changes}, cfg, model.image_size)
        network = _build(written)
        load_strictly(network, state, f'what was folded of head {head!r}')
        difference = _compare(model, network, head, _FOLDED_TOLERANCE)
    text = written.pretty_text
    meta = dict(head=head, mmkdfuse_version=__version__, cfg=text)
    meta |= {'dataset_meta': known} if (known := _dataset_meta(source)) else {}
    network._dataset_meta = meta.get('dataset_meta', {})
    _write(files, text, dict(meta=meta, state_dict=state))

    shape = (3, *as_size(model.image_size))
    networks = networks_to_compare(model, cfg.model.to_dict(), head)
    networks |= {'before folding': unfolded} if fold else {}
    networks[f'deployed {head}'] = network
    costs = {name: count_cost(each, shape) for name, each in networks.items()}
    latencies = {}
    if seconds:
        networks = {name: each.to(device) for name, each in networks.items()}
        latencies = compare_latency(networks, shape, seconds)
        network.to('cpu')
    return Deployed(head, *files, network, difference, costs, latencies)


def _files(
    cfg: Config, checkpoint: Path, head: str, out: str | os.PathLike | None
) -> tuple[Path, Path]:
    folder = checkpoint.parent / 'deployed' if out is None else Path(out)
    name = f'{Path(cfg.filename or "model.py").stem}_{head}'
    files = folder / f'{name}.py', folder / f'{name}.pth'
    taken = {checkpoint.resolve(), Path(cfg.filename or checkpoint).resolve()}
    if taken & {path.resolve() for path in files}:
        raise ValueError(
            f"out='{folder}' would replace the trained model's config or checkpoint by the "
            'deployed one, expected another folder.'
        )
    return files


def _build(written: Config) -> nn.Module:
    from mmpretrain import get_model

    return get_model(written)


def _gather(weights: dict[str, nn.Module], network: nn.Module) -> dict[str, Tensor]:
    """Tensors of the trained modules by their name in the deployed network.

    What it does not have is left behind: unneeded stages, norm layers of outputs that are gone.
    """
    trained = {
        f'{prefix}.{name}': tensor
        for prefix, module in weights.items()
        for name, tensor in module.state_dict().items()
    }
    wanted = (name for name in network.state_dict() if name in trained)
    return {name: trained[name].detach().cpu().contiguous().clone() for name in wanted}


@torch.no_grad()
def _compare(model: Any, network: nn.Module, head: str, tolerance: float) -> float:
    """Largest difference of the logits on random images, relative to the largest logit."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_TRIAL_IMAGES, 3, *as_size(model.image_size), generator=generator)
    expected, found = logits_of(model, head, images), network(images)
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    difference = float((found - expected).abs().max() / scale)
    if not difference <= tolerance:
        raise RuntimeError(
            f'head={head!r}: the logits of the deployed network differ from the trained '
            f"model's by {difference:.1e} of the largest one, expected at most {tolerance:.0e}."
        )
    return difference


def _dataset_meta(source: dict) -> dict | None:
    """Class names, where training stored them."""
    return (source.get('meta') or {}).get('dataset_meta')


def _write(files: tuple[Path, Path], text: str, checkpoint: dict) -> None:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomically(files[1], buffer.getvalue())
    head = checkpoint['meta']['head']
    title = f'"""Head {head!r} of a trained model, deployed; its weights: {files[1].name}."""'
    write_atomically(files[0], f'{title}\n\n{text}'.encode())
