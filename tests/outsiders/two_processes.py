"""Trains twice in one of two processes: through, and on from the checkpoint of the first epoch.

python two_processes.py CONFIG FOLDER OPTIONS PORT PORT, with RANK and WORLD_SIZE set
"""

import json
import os
import sys

import mmkdfuse


def main():
    config, folder, options, *ports = sys.argv[1:]
    options = json.loads(options)
    runs = [(f'{folder}/whole', False), (f'{folder}/resumed', f'{folder}/whole/epoch_1.pth')]
    for (work_dir, resume), port in zip(runs, ports, strict=True):
        os.environ['MASTER_PORT'] = port
        mmkdfuse.train(
            config,
            work_dir=work_dir,
            resume=resume,
            launcher='pytorch',
            preflight=False,
            cfg_options=options,
        )


if __name__ == '__main__':
    main()
