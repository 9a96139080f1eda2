"""Values that are valid one by one and make no sense together."""

from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from mmkdfuse.engine.value_check import short


class SenseCheck:
    """Judge a config whose names and types are right.

    Mistakes are what cannot be meant: no training iteration, checkpoints that overwrite each other.
    Everything that somebody could mean is advice only.

    Args:
        cfg: The config, which is not changed.

    Attributes:
        mistakes: Sentences.
        advice: Sentences.

    Example:
        >>> from mmengine.config import Config
        >>> optimizer = dict(type='SGD', lr=0.1)
        >>> check = SenseCheck(Config(dict(
        ...     train_cfg=dict(by_epoch=True, max_epochs=2),
        ...     optim_wrapper=dict(optimizer=optimizer),
        ...     param_scheduler=dict(type='MultiStepLR', milestones=[1, 5]),
        ... )))
        >>> check.run()
        >>> check.advice
        ['`param_scheduler.milestones` = [1, 5]: 5 is not reached, training ends after 2 epochs.']
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.mistakes: list[str] = []
        self.advice: list[str] = []

    def run(self, training: bool = True) -> None:
        """Judge what needs no data and no model.

        Args:
            training: False to judge only what testing reads.
        """
        self._check_order('model', self.cfg.get('model'))
        for key in ('val_evaluator', 'test_evaluator') if training else ('test_evaluator',):
            self._check_topk(key, self.cfg.get(key))
        self._check_backend()
        if training:
            self._check_optimizer()
            self._check_schedule()
            self._check_validation()
            self._check_checkpoints()

    def check_data(self, images: Mapping[str, int], batches: int | None, classes: int) -> None:
        """Judge how the data fit the schedule.

        Args:
            images: Number of images of every split.
            batches: Batches of an epoch, None where the loader does not tell.
            classes: Number of classes, 0 if unknown.
        """
        count = images.get('train')
        if count is None:
            return
        loader = self.cfg.get('train_dataloader') or {}
        size = loader.get('batch_size') or 1
        path = f'`train_dataloader.batch_size` = {size}'
        if batches == 0:
            kept = ' and drop_last leaves it out' if loader.get('drop_last') else ''
            self.mistakes.append(
                f'{path}: the {count:,} training images fill no batch{kept}, there would be no '
                'training iteration.'
            )
        elif size > count:
            self.advice.append(
                f'{path}: there are {count:,} training images only, an epoch is one iteration.'
            )
        if count < classes:
            subset = (loader.get('dataset') or {}).get('subset')
            place = f'.subset` = {subset}' if subset is not None else '`'
            noun = 'image' if count == 1 else 'images'
            self.advice.append(
                f'`train_dataloader.dataset{place}: {count:,} training {noun}, {classes} classes.'
            )

    def check_size(self, shape: tuple[int, ...], path: str = 'model.image_size') -> None:
        """Compare the size that the model was planned for with that of the images, (C, H, W)."""
        size = (self.cfg.get('model') or {}).get('image_size')
        height, width = shape[-2:]
        if size is not None:
            given = (size, size) if _is_whole(size) else tuple(size)
            if given != (height, width):
                self.advice.append(
                    f'`{path}` = {short(size)}: the images are {height}x{width}, for which it '
                    f'would be {height if height == width else (height, width)}.'
                )
        for key in ('model.data_preprocessor', 'data_preprocessor'):
            node = self.cfg
            for part in key.split('.'):
                node = (node or {}).get(part)
            mean: Any = node.get('mean') if isinstance(node, Mapping) else None
            if isinstance(mean, list | tuple) and len(mean) not in (1, shape[0]):
                self.mistakes.append(
                    f'`{key}.mean` = {short(mean)}: the images have {shape[0]} channels.'
                )
            padding: Any = node.get('crop_padding') if isinstance(node, Mapping) else None
            if _is_whole(padding) and padding >= min(height, width):
                self.mistakes.append(
                    f'`{key}.crop_padding` = {padding}: most crops of a {height}x{width} image '
                    f'would show nothing of it, expected less than {min(height, width)}.'
                )

    def check_topk(self, classes: int) -> None:
        """Compare the k's of the evaluators with the number of classes."""
        for key in ('val_evaluator', 'test_evaluator'):
            for path, metric in _dicts(key, self.cfg.get(key)):
                beyond = [k for k in _integers(metric.get('topk')) if k > classes]
                if beyond and metric.get('type') == 'EnsembleAccuracy':
                    self.advice.append(
                        f'`{path}.topk` = {short(metric["topk"])}: there are {classes} classes, '
                        f'top-{beyond[0]} is always 100.'
                    )

    def _check_order(self, path: str, node: Any) -> None:
        """Stages are numbered from the image to the classifier, in the whole package."""
        for inner, part in _dicts(path, node):
            indices = part.get('out_indices')
            if not isinstance(indices, list | tuple) or not all(map(_is_whole, indices)):
                continue
            same_sign = all(i >= 0 for i in indices) or all(i < 0 for i in indices)
            if same_sign and list(indices) != sorted(set(indices)):
                self.mistakes.append(
                    f'`{inner}.out_indices` = {short(indices)}: expected different stages in '
                    f'ascending order, {sorted(set(indices))}.'
                )

    def _check_topk(self, path: str, node: Any) -> None:
        for inner, metric in _dicts(path, node):
            several = metric.get('topk')
            ks = _integers(several)
            if isinstance(several, list | tuple) and (not ks or len(set(ks)) < len(ks)):
                expected = 'different numbers' if ks else 'at least one number'
                self.mistakes.append(f'`{inner}.topk` = {short(several)}: expected {expected}.')

    def _check_backend(self) -> None:
        backend = ((self.cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('backend')
        # Those of torch, of mmengine's other devices, and lists such as 'cpu:gloo,cuda:nccl'.
        known = ('nccl', 'gloo', 'mpi', 'ucc', 'hccl', 'cncl', 'mccl', 'xccl', 'smddp', 'deepspeed')
        if backend is not None and not (
            isinstance(backend, str) and (backend in known or ':' in backend)
        ):
            self.mistakes.append(
                f'`env_cfg.dist_cfg.backend` = {short(backend)}: expected one of '
                f'{", ".join(known)}.'
            )

    def _check_optimizer(self) -> None:
        path = 'optim_wrapper.optimizer.lr'
        rate = self._rate()
        if rate == 0:
            self.advice.append(f'`{path}` = {rate}: nothing is learned at a rate of 0.')

    def _rate(self) -> Any:
        wrapper = self.cfg.get('optim_wrapper') or {}
        optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
        rate = optimizer.get('lr') if isinstance(optimizer, Mapping) else None
        return rate if _is_number(rate) else None

    def _length(self, by_epoch: bool) -> tuple[int | None, str]:
        """Planned length of training in a unit, where the config tells it."""
        loop = self.cfg.get('train_cfg') or {}
        length: Any = loop.get('max_epochs' if by_epoch else 'max_iters')
        return int(length) if _is_number(length) else None, 'epochs' if by_epoch else 'iterations'

    def _check_schedule(self) -> None:
        for path, node in _dicts('param_scheduler', self.cfg.get('param_scheduler')):
            length, unit = self._length(node.get('by_epoch', True))
            ends = f'training ends after {_counted(length, unit)}'
            late = [m for m in _integers(node.get('milestones')) if length and m >= length]
            if late:
                self._advise(path, node, 'milestones', f'{late[0]} is not reached, {ends}')
            begin: Any = node.get('begin', 0)
            if length and _is_whole(begin) and begin >= length:
                self._advise(path, node, 'begin', f'it never begins, {ends}')
            rate, least = self._rate(), node.get('eta_min')
            if _is_number(least) and rate is not None and least > rate:
                reason = f'above `optim_wrapper.optimizer.lr` = {rate}, so that the rate rises'
                self._advise(path, node, 'eta_min', reason)
            whole: Any = node.get('T_max')
            end: Any = node.get('end', length)
            if _is_whole(end) and length and end > length > begin and whole is None:
                reason = f'the schedule does not reach its end, {ends}'
                self._advise(path, node, 'end', reason)
            if _is_whole(whole) and _is_whole(end):
                steps = min(end, length or end) - int(begin or 0)
                if 0 < steps < whole:
                    reason = f'the rate does not reach its end within {_counted(steps, unit)}'
                    self._advise(path, node, 'T_max', reason)
                elif steps > whole:
                    reason = f'the rate rises again within {_counted(steps, unit)}'
                    self._advise(path, node, 'T_max', reason)

    def _advise(self, path: str, node: Mapping, key: str, reason: str) -> None:
        self.advice.append(f'`{path}.{key}` = {short(node[key])}: {reason}.')

    def _check_validation(self) -> None:
        loop = self.cfg.get('train_cfg') or {}
        begin: Any = loop.get('val_begin')
        length, unit = self._length('max_iters' not in loop)
        if length and _is_whole(begin) and begin > length:
            self._advise(
                'train_cfg', loop, 'val_begin', f'no validation in {_counted(length, unit)}'
            )
        own, other = (
            (self.cfg.get(f'{split}_dataloader') or {}).get('dataset') for split in ('train', 'val')
        )
        if own is not None and _source(own) == _source(other):
            split = own.get('split') if isinstance(own, Mapping) else None
            key, value = ('.split', f' = {split!r}') if split is not None else ('', '')
            self.advice.append(
                f'`val_dataloader.dataset{key}`{value}: validation scores the training images.'
            )

    def _check_checkpoints(self) -> None:
        hooks = self.cfg.get('default_hooks') or {}
        places = [(f'default_hooks.{key}', hook) for key, hook in hooks.items()]
        places += [
            (f'custom_hooks[{i}]', h) for i, h in enumerate(self.cfg.get('custom_hooks') or [])
        ]
        for path, hook in places:
            template = hook.get('filename_tmpl') if isinstance(hook, Mapping) else None
            if isinstance(template, str):
                self._check_template(f'{path}.filename_tmpl', template)
            if isinstance(hook, Mapping) and hook.get('by_epoch') is False:
                if hook.get('interval') == 1 and 'max_keep_ckpts' in hook:
                    reason = 'with `interval` = 1 a checkpoint is saved after every iteration'
                    self._advise(path, hook, 'by_epoch', reason)
            if isinstance(hook, Mapping) and hook.get('save_best') == []:
                self.mistakes.append(
                    f"`{path}.save_best` = []: names no metric, expected one, 'auto' or None."
                )

    def _check_template(self, path: str, template: str) -> None:
        try:
            is_one = template.format(1) == template.format(2)
        except (IndexError, KeyError, ValueError):
            is_one = True
        if is_one:
            self.mistakes.append(
                f'`{path}` = {template!r}: expected one {{}} for the number of the epoch, '
                "'epoch_{}.pth'; without it every checkpoint takes the place of the one before."
            )


def _dicts(path: str, node: Any) -> Iterator[tuple[str, Mapping]]:
    """Yield every dict of a nested config with its path."""
    if isinstance(node, Mapping):
        yield path, node
        for key, value in node.items():
            yield from _dicts(f'{path}.{key}', value)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _dicts(f'{path}[{index}]', value)


def _source(dataset: Any) -> Any:
    """Keys that tell where the images of a dataset come from, with their values."""
    ignored = ('subset', 'subset_seed', 'pipeline', 'test_mode')
    if not isinstance(dataset, Mapping):
        return dataset
    return {key: value for key, value in dataset.items() if key not in ignored}


def _integers(value: Any) -> list[int]:
    several = value if isinstance(value, list | tuple) else [value]
    return [int(each) for each in several if _is_whole(each)]


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _counted(number: int | None, unit: str) -> str:
    return f'{number} {unit[:-1] if number == 1 else unit}'
