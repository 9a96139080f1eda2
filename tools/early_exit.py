"""Accuracy against average MACs: ``python tools/early_exit.py CONFIG CHECKPOINT``."""

from mmkdfuse.deploy.exit_report import THRESHOLDS, report_early_exit
from mmkdfuse.engine.command_line import Parser, add_changes, run


def main() -> None:
    """Parse the arguments, test and print the table."""
    parser = Parser(
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
    add_changes(parser)
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
    run(main)
