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
from mmkdfuse.checkpoint import load_strictly, pack_resume_state, write_atomically
from mmkdfuse.checkpoint_reader import checkpoint_path, load_file
from mmkdfuse.deploy.config import deployed_config
from mmkdfuse.engine.launch import ConfigLike, build_model, load_config
from mmkdfuse.models.classifiers.aligned import CONNECTOR
from mmkdfuse.models.classifiers.multi_head import ENSEMBLE
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.file_weights import weights_for
from mmkdfuse.models.inference.folded_classifier import fold_network
from mmkdfuse.models.probe import as_size, relative_difference, trial_images
from mmkdfuse.structures import TapKeys
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
        costs: Parameters and MACs by name, the deployed network last. Before it stand the networks
            that it is compared with: the trained model and its main network, or teacher, student
            alone and connector.
        latencies: Their times, empty if they were not taken.

    Example:
        >>> import tempfile
        >>> import mmkdfuse
        >>> name = 'quickstart/kfmsd_digits'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = f'{folder}/random.pth'
        ...     torch.save(mmkdfuse.load(name, None).state_dict(), checkpoint)
        ...     deployed = deploy(name, checkpoint, 'branch1', seconds=0)
        >>> list(deployed.costs)
        ['trained model', 'main network', 'deployed branch1']
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
    SimKD that is student, connector and the teacher's classifier, and needs this package too. The
    logits are compared with the trained model's before anything is written.

    Args:
        config: Path of the config that was trained, a shipped one's name, or a loaded config.
        checkpoint: File whose keys must match the model's exactly.
        head: ``'main'``, ``'branch1'``, .. or ``'ensemble'``.
        fold: Fold batch norms into convolutions and merge the parallel projectors; needs this
            package installed.
        out: Folder of the two files ``<config name>_<head>.py`` and ``.pth``, ``<head>_folded``
            with ``fold``, which are replaced if they exist; default ``deployed`` beside the
            checkpoint.
        seconds: Time to measure each network; 0 leaves times out.
        device: Device of the measurement.
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
    path = checkpoint_path(checkpoint)
    source = load_file(path)
    model: Any = build_model(cfg)
    if not isinstance(model, Trainable):
        raise ValueError(
            f'model={type(model).__name__} has no heads to deploy, expected a classifier of this '
            'package, such as KFMSD.'
        )
    heads = model.heads()
    if head not in heads:
        raise ValueError(
            f'head={head!r} must be one of {heads}, the heads of {type(model).__name__} that can '
            'be deployed.'
        )
    name = f"checkpoint '{path}'"
    load_strictly(model, weights_for(model, source, name, path.key), name)
    files = _files(cfg, Path(path), f'{head}_folded' if fold else head, out)
    # Weights in another memory format would round otherwise.
    model.eval().to(memory_format=torch.contiguous_format)
    export = model.export(head)
    written = deployed_config(export.config, cfg, model.image_size)
    network = _build(written)
    state = _gather(export.weights, network)
    load_strictly(network, state, f'what was trained of head {head!r}')
    difference = _compare(model, network, head, _TOLERANCE)
    unfolded = network
    if fold:
        # Folded beside it and loaded into what the written config builds.
        folded = copy.deepcopy(network)
        fold_network(folded, model.image_size)
        state = folded.state_dict()
        changes = dict(type='mmkdfuse.FoldedClassifier', image_size=model.image_size)
        written = deployed_config({**export.config, **changes}, cfg, model.image_size)
        network = _build(written)
        load_strictly(network, state, f'what was folded of head {head!r}')
        difference = _compare(model, network, head, _FOLDED_TOLERANCE)
    text = written.pretty_text
    meta = dict(head=head, mmkdfuse_version=__version__, cfg=text)
    meta |= {'dataset_meta': known} if (known := _dataset_meta(source)) else {}
    network._dataset_meta = meta.get('dataset_meta', {})
    _write(files, text, dict(meta=meta, state_dict=state))

    shape = (3, *as_size(model.image_size))
    networks = model.costs_beside(head)
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

    Others are left behind: those of unneeded stages, norm layers of outputs that are gone.
    """
    trained = {
        f'{prefix}.{name}': tensor
        for prefix, module in weights.items()
        for name, tensor in module.state_dict().items()
    }
    wanted = (name for name in network.state_dict() if name in trained)
    return {name: trained[name].detach().cpu().contiguous().clone() for name in wanted}


def _logits_of(model: Trainable, head: str, images: Tensor) -> Tensor:
    """Logits (N, K) of one head of a trained model for images (N, 3, H, W)."""
    heads = [name for name in model.heads() if name != ENSEMBLE] if head == ENSEMBLE else [head]
    output = model.run(images, TapKeys(logits=tuple(heads)))
    return torch.stack([output.logits_of(name) for name in heads]).mean(dim=0)


@torch.no_grad()
def _compare(model: Any, network: nn.Module, head: str, tolerance: float) -> float:
    """Largest difference of the logits on random images, relative to the largest logit."""
    images = trial_images(_TRIAL_IMAGES, model.image_size)
    expected, found = _logits_of(model, head, images), network(images)
    difference = relative_difference(found, expected)
    if not difference <= tolerance:
        raise RuntimeError(
            f'head={head!r}: the logits of the deployed network differ from the trained '
            f"model's by {difference:.1e} of the largest one, expected at most {tolerance:.0e}."
        )
    return difference


def _dataset_meta(source: dict) -> dict | None:
    """Class names, where training stored them as plain values."""
    meta = source.get('meta')
    found = meta.get('dataset_meta') if isinstance(meta, dict) else None
    try:
        return pack_resume_state(found) if isinstance(found, dict) else None
    except RuntimeError:
        return None


def _write(files: tuple[Path, Path], text: str, checkpoint: dict) -> None:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomically(files[1], buffer.getvalue())
    head = checkpoint['meta']['head']
    title = f'"""Head {head!r} of a trained model, deployed; its weights: {files[1].name}."""'
    write_atomically(files[0], f'{title}\n\n{text}'.encode())
