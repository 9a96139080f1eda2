"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--out FILE] ...``."""

import argparse

from mmengine.config import DictAction

import mmkdfuse


def main() -> None:
    """Parse the arguments and test."""
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument('--out', help='write predictions or metrics to this file')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], default='pred', help='what')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='changes: key.of.config=value ...'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='launcher'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    mmkdfuse.test(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        out=args.out,
        out_item=args.out_item,
        launcher=args.launcher,
        cfg_options=args.cfg_options,
    )


if __name__ == '__main__':
    main()
