#!/usr/bin/env bash
# Tests a checkpoint with one process per GPU (per process on a machine without GPUs) through
# torchrun. Several nodes: as in dist_train.sh.
set -euo pipefail

if [ $# -lt 3 ] || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "Usage: [NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500] $0 CONFIG CHECKPOINT GPUS" \
        "[arguments of test.py]" >&2
    exit 2
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
source "$tools/_torchrun.sh"
run_distributed "$3" "$tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
