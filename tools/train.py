"""Train a config: ``python tools/train.py CONFIG [--work-dir DIR] [--resume] ...``."""

import mmkdfuse
from mmkdfuse.engine.command_line import Parser, add_changes, add_launcher, run


def main() -> None:
    """Parse the arguments and train."""
    parser = Parser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        help='go on from this checkpoint, or from the latest one of the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (bf16 on CPUs)')
    parser.add_argument('--no-validate', action='store_true', help='do not validate')
    parser.add_argument('--no-preflight', action='store_true', help='do not check the config first')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch'
    )
    add_changes(parser)
    add_launcher(parser)
    args = parser.parse_args()
    mmkdfuse.train(
        args.config,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        validate=not args.no_validate,
        preflight=not args.no_preflight,
        auto_scale_lr=args.auto_scale_lr,
        launcher=args.launcher,
        cfg_options=args.cfg_options,
    )


if __name__ == '__main__':
    run(main)
