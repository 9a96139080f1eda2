"""Train a suite within a budget: ``python tools/reproduce.py SUITE --budget MINUTES``."""

from pathlib import Path

from mmkdfuse.engine.command_line import Parser, run
from mmkdfuse.sweeps import reproduce


def main() -> None:
    """Parse the arguments, train what the budget allows, and print the table."""
    parser = Parser(description='Train the rows of a suite in order of value')
    parser.add_argument('suite', help='name of a suite in configs/suites, or a YAML file')
    parser.add_argument('--budget', type=float, help='minutes; default until all is done')
    parser.add_argument('--work-dir', help='folder of all runs; default work_dirs/reproduce/SUITE')
    args = parser.parse_args()
    work_dir = args.work_dir or Path('work_dirs', 'reproduce', Path(args.suite).stem)
    print(reproduce(args.suite, work_dir, args.budget))


if __name__ == '__main__':
    run(main)
