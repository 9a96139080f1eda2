#!/usr/bin/env bash
# Trains on a Slurm cluster: one task per node, and in it torchrun with one process per GPU.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "Usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='...'] $0 PARTITION JOB_NAME" \
        "CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
if [ $((GPUS % GPUS_PER_NODE)) -ne 0 ]; then
    echo "GPUS=$GPUS is no multiple of GPUS_PER_NODE=$GPUS_PER_NODE." >&2
    exit 2
fi

# Runs on every node. The port follows from the job's number: equal on all nodes of a job, different
# between jobs that share a node.
# shellcheck disable=SC2016
on_each_node='
    export NNODES=$SLURM_NNODES NODE_RANK=$SLURM_NODEID
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export MASTER_ADDR PORT=${PORT:-$((20000 + SLURM_JOB_ID % 10000))}
    exec bash "$@"
'

# SRUN_ARGS holds several arguments and is split on purpose.
# shellcheck disable=SC2086
exec srun --partition "$1" --job-name "$2" \
    --nodes $((GPUS / GPUS_PER_NODE)) --ntasks-per-node 1 --gres "gpu:$GPUS_PER_NODE" \
    --cpus-per-task $((GPUS_PER_NODE * ${CPUS_PER_TASK:-5})) --kill-on-bad-exit 1 \
    ${SRUN_ARGS:-} \
    bash -c "$on_each_node" bash \
    "$tools/dist_train.sh" "$3" "$GPUS_PER_NODE" --work-dir "$4" "${@:5}"
