#!/usr/bin/env bash
# Trains with one process per GPU (per process on a machine without GPUs) through torchrun.
# Several nodes: run it on every node with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 2 ] || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "Usage: [NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500] $0 CONFIG GPUS" \
        "[arguments of train.py]" >&2
    exit 2
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
source "$tools/_torchrun.sh"
run_distributed "$2" "$tools/train.py" "$1" --launcher pytorch "${@:3}"
