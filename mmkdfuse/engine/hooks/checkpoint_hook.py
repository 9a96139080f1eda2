"""Checkpoints that survive a kill, load safely, and belong to their work directory."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import BaseLoop, Runner

from mmkdfuse.checkpoint import (
    find_mismatches,
    latest_checkpoint,
    pack_resume_state,
    unpack_resume_state,
    write_atomically,
)
from mmkdfuse.engine.loss_context import MEMORIES, gather_memories, restore_memories, unwrapped
from mmkdfuse.registry import HOOKS

INTERRUPTED = 'interrupted.pth'
ATOMIC = 'mmkdfuse.atomic'


class AtomicLocalBackend(LocalBackend):
    """Local files that are never seen half-written."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)


register_backend(ATOMIC, AtomicLocalBackend, force=True)


def atomic_backend_args(out_dir: str) -> dict | None:
    """Backend arguments that make mmengine write to a local folder atomically."""
    return None if '://' in str(out_dir) else {'backend': ATOMIC}


def _is_not_upstreams_own(record: logging.LogRecord) -> bool:
    """Drop mmengine's warnings about mmengine's own use of its deprecated FileClient."""
    return not re.match('"(FileClient|HardDiskBackend)" ', str(record.msg))


def write_pointer(runner: Runner, path: str) -> None:
    """Point ``last_checkpoint`` of the work directory to a checkpoint."""
    write_atomically(Path(runner.work_dir) / 'last_checkpoint', path.encode())


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's checkpoint hook with its arguments, made safe.

    - Files and the pointer ``last_checkpoint`` are written atomically, and an older file is
      removed only when the new one is in place.
    - The file holds tensors and plain Python values only: it loads with ``weights_only=True``.
    - Paths of checkpoints are stored relative to their folder: a run resumed in a copied work
      directory leaves the files of the original alone.
    - ``resume`` without a file takes the newest loadable checkpoint of the work directory.
    - A resume from a file that does not fit the model, or that holds weights only, is an error.

    ``mmengine.CheckpointHook`` remains the original.

    Example:
        >>> CheckpointHook(interval=1, max_keep_ckpts=2, save_best='main/top1').interval
        1
    """

    backend_args: dict | None
    _memories: list[dict] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args:  # which mmengine hands on to the first checkpoint, where it fails
            raise ValueError(
                f'CheckpointHook has no argument {", ".join(self.args)}, expected those of '
                'mmengine.CheckpointHook.'
            )

    def before_run(self, runner: Runner) -> None:
        """Find the file to resume from."""
        runner.logger.addFilter(_is_not_upstreams_own)
        if not (runner._resume and runner._load_from is None):
            return
        runner._load_from = latest_checkpoint(runner.work_dir)
        if runner._load_from is None:
            runner._resume = False
            runner.logger.warning(
                f"Nothing to resume in '{runner.work_dir}': training starts from the beginning."
            )

    def before_train(self, runner: Runner) -> None:
        """Prepare the output folder and the best checkpoints known so far."""
        if self.backend_args is None and self.file_client_args is None:
            self.backend_args = atomic_backend_args(self.out_dir or runner.work_dir)
        super().before_train(runner)
        hub = runner.message_hub
        for key in [key for key in hub.runtime_info if key.startswith('best_ckpt')]:
            if hub.get_info(key):
                hub.update_info(key, self._in_out_dir(hub.get_info(key)))
        self._set_best_paths(
            {key: self._in_out_dir(path) for key, path in self._best_paths().items() if path}
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add memories; leave only tensors and plain values in the checkpoint."""
        if self._memories is not None:
            checkpoint[MEMORIES] = self._memories
        info = checkpoint['message_hub']['runtime_info']
        for key in list(info):
            if key.startswith('best_ckpt') or key == 'last_ckpt':
                info[key] = info[key] and os.path.basename(info[key])
            try:
                pack_resume_state(info[key], key)
            except RuntimeError as error:
                runner.logger.warning(f'Left out of the checkpoint: {error}.')
                del info[key]
        stored = {*info, *checkpoint['message_hub']['log_scalars']}
        keys = checkpoint['message_hub']['resumed_keys']
        checkpoint['message_hub']['resumed_keys'] = {k: v for k, v in keys.items() if k in stored}
        for key, value in checkpoint.items():
            # Weights are plain already, and carry module versions that a copy would lose.
            if not key.endswith('state_dict'):
                checkpoint[key] = pack_resume_state(value, key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Undo the packing of ``before_save_checkpoint``; refuse files that cannot be resumed."""
        for key, value in checkpoint.items():
            if not key.endswith('state_dict'):
                checkpoint[key] = unpack_resume_state(value)
        if not runner._resume:
            return
        self._check_resumable(runner, checkpoint)
        restore_memories(runner, checkpoint)
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if pack_resume_state(checkpoint['meta'].get('dataset_meta')) == pack_resume_state(metainfo):
            # Runner compares the pickles, which differ for equal values.
            checkpoint['meta']['dataset_meta'] = metainfo

    @staticmethod
    def _check_resumable(runner: Runner, checkpoint: dict) -> None:
        lacking = {'meta', 'state_dict', 'message_hub', 'optimizer'} - checkpoint.keys()
        if lacking:
            raise RuntimeError(
                f"'{runner._load_from}' cannot be resumed, it lacks {', '.join(sorted(lacking))} "
                '(files of the best or published weights hold no training state): resume from an '
                'epoch_*.pth file, or start from its weights with load_from and without resume'
            )
        model = unwrapped(runner.model)
        weights = {re.sub('^module.', '', k): v for k, v in checkpoint['state_dict'].items()}
        problems = find_mismatches(model, weights)
        if problems:
            raise RuntimeError(
                f"'{runner._load_from}' cannot be resumed, the model of the config does not fit; "
                + '; '.join(problems)
            )

    def before_interrupt(self, runner: Runner) -> None:
        """Collect the memories of all processes for the state that is saved next."""
        self._memories = gather_memories(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint; a validation outside training saves nothing."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        runner.message_hub.update_info('last_validated_epoch', runner.epoch)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # As upstream, but files are removed after the new one is written.
        outdated = [INTERRUPTED]
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._memories = gather_memories(runner)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._memories = None  # files of the best weights go without
        if is_main_process():
            write_pointer(runner, self.last_ckpt)
            for name in outdated:
                self._remove(self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        # Upstream removes the previous best file before the new one exists: hide it meanwhile.
        if not self.save_best:
            return
        unknown = [key for key in self.key_indicators if key not in metrics and key != 'auto']
        if unknown:
            raise ValueError(
                f'save_best={unknown[0]!r} is not a metric of this validation, which gives '
                f'{", ".join(metrics)}: change default_hooks.checkpoint.save_best'
            )
        previous = self._best_paths()
        self._set_best_paths(dict.fromkeys(previous))
        super()._save_best_checkpoint(runner, metrics)
        current = self._best_paths()
        self._set_best_paths({key: current.get(key) or path for key, path in previous.items()})
        if is_main_process():
            for key, path in previous.items():
                if path and current.get(key) and path != current[key]:
                    self._remove(path)
                    runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _best_paths(self) -> dict[str, str | None]:
        """Path of the best checkpoint by metric; upstream has one attribute for one metric."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: dict[str, Any]) -> None:
        if '' in paths:
            self.best_ckpt_path = paths['']
        elif self.save_best and len(self.key_indicators) > 1:
            self.best_ckpt_path_dict.update(paths)

    def _in_out_dir(self, path: str) -> str:
        return self.file_backend.join_path(self.out_dir, os.path.basename(path))

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # written by deepspeed
            self.file_backend.rmtree(path)
