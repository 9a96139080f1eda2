"""Measures parts of the package: `python -m benchmarks [PARTS ..]`."""

import argparse
import json
import logging
import sys
from dataclasses import fields
from pathlib import Path

import torch

from benchmarks.measure import Options
from benchmarks.parts import choose_parts, run_part
from benchmarks.report import as_dict, environment, header, table
from mmkdfuse.engine.host_memory import keep_freed_memory


def parse_args(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    default = {field.name: field.default for field in fields(Options)}
    parser.add_argument('parts', nargs='*', metavar='PARTS', help='all where none is named')
    parser.add_argument('--device', default=default['device'], help='cpu (default) or cuda')
    parser.add_argument('--threads', type=int, default=default['threads'], help='of PyTorch')
    parser.add_argument('--rounds', type=int, default=default['rounds'])
    parser.add_argument(
        '--seconds', type=float, default=default['seconds'], help='of one contender in one round'
    )
    parser.add_argument('--short', action='store_true', help='only shows that every part works')
    parser.add_argument('--json', type=Path, metavar='FILE', help='writes everything there')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts, prints a table after each, writes the JSON file."""
    args = parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        options = Options(args.device, args.threads, args.rounds, args.seconds, args.short)
        if options.on_gpu and not torch.cuda.is_available():
            raise ValueError(f'device {args.device!r} needs a GPU, but PyTorch finds none.')
        parts = choose_parts(args.parts)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    if not options.on_gpu:
        keep_freed_memory()  # as mmkdfuse.train does
    record = dict(environment(options), parts=[])
    print(header(record), flush=True)
    for name, part in parts.items():
        result = run_part(name, part, options)
        record['parts'].append(as_dict(result))
        print('\n' + table(result), flush=True)
        if args.json:  # after every part: a later one that fails takes no figure with it
            args.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    logging.disable(logging.INFO)  # what networks say when they are initialised
    sys.exit(main())
