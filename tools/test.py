"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--out FILE] ...``."""

import mmkdfuse
from mmkdfuse.engine.command_line import Parser, add_changes, add_launcher, run


def main() -> None:
    """Parse the arguments and test."""
    parser = Parser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument('--out', help='write predictions or metrics to this file')
    parser.add_argument('--no-preflight', action='store_true', help='do not check the config first')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], default='pred', help='what')
    add_changes(parser)
    add_launcher(parser)
    args = parser.parse_args()
    mmkdfuse.test(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        out=args.out,
        out_item=args.out_item,
        preflight=not args.no_preflight,
        launcher=args.launcher,
        cfg_options=args.cfg_options,
    )


if __name__ == '__main__':
    run(main)
