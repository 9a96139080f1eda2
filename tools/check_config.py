"""Check a config without training: exit 0 if it can run, else 1 with every mistake named."""

from mmkdfuse.engine.command_line import Parser, add_changes, run
from mmkdfuse.engine.preflight import check_file


def main() -> int:
    """Parse the arguments, check, return the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_changes(parser)
    parser.add_argument(
        '--no-data', action='store_true', help='leave the datasets alone, try a random batch'
    )
    args = parser.parse_args()
    return check_file(args.config, args.cfg_options, data=not args.no_data)


if __name__ == '__main__':
    run(main)
