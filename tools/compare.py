"""Train configs side by side: ``python tools/compare.py CONFIG [CONFIG ...] --seeds 0 1 2``."""

from mmkdfuse.engine.command_line import Parser, add_changes, run
from mmkdfuse.engine.compare import compare, table


def main() -> None:
    """Parse the arguments, train what is not finished and print the table."""
    parser = Parser(description='Train configs and print one table')
    parser.add_argument('configs', nargs='+', help='config files (with --table: folders of runs)')
    parser.add_argument('--work-dir', default='work_dirs/compare', help='folder of all runs')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='random seeds')
    parser.add_argument(
        '--table', action='store_true', help='only print the table of these folders'
    )
    add_changes(parser)
    args = parser.parse_args()
    if args.table:
        print(table(args.configs))
    else:
        print(compare(args.configs, args.work_dir, args.seeds, args.cfg_options))


if __name__ == '__main__':
    run(main)
