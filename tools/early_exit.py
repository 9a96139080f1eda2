"""Accuracy against average MACs: ``python tools/early_exit.py CONFIG CHECKPOINT``."""

import argparse

from mmengine.config import DictAction

from mmkdfuse.deploy.exit_report import THRESHOLDS, report_early_exit


def main() -> None:
    """Parse the arguments, test and print the table."""
    parser = argparse.ArgumentParser(
        description='Leave at the first branch that is sure: accuracy against average MACs'
    )
    parser.add_argument('config', help='config file of the trained model')
    parser.add_argument('checkpoint', help='checkpoint file of the trained model')
    parser.add_argument('--out-dir', help='folder of the results; default: beside the checkpoint')
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        default=THRESHOLDS,
        help='probabilities in (0, 1] from which on images leave',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='changes: key.of.config=value ...'
    )
    args = parser.parse_args()
    report = report_early_exit(
        args.config,
        args.checkpoint,
        out_dir=args.out_dir,
        thresholds=args.thresholds,
        cfg_options=args.cfg_options,
    )
    print(report)


if __name__ == '__main__':
    main()
