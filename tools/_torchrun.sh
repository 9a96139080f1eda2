# Sourced by dist_train.sh and dist_test.sh: starts one script in several processes.
# run_distributed PROCESSES_PER_NODE SCRIPT [arguments]; reads NNODES, NODE_RANK, MASTER_ADDR, PORT
# and PYTHON from the environment.

run_distributed() {
    local processes=$1 nnodes=${NNODES:-1} repository rendezvous
    shift
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
    export PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}"
    # torchrun would set the same and print a warning; one thread per process suits most machines.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

    if [ "$nnodes" -eq 1 ] && [ -z "${PORT:-}" ]; then
        # A free port of its own, so that two jobs on one machine never meet.
        rendezvous=(--standalone)
    elif [ "$nnodes" -gt 1 ] && { [ -z "${NODE_RANK:-}" ] || [ -z "${MASTER_ADDR:-}" ]; }; then
        echo "NNODES=$nnodes needs NODE_RANK (0 to $((nnodes - 1))) and MASTER_ADDR (a name or" \
            "address of node 0 that every node reaches)." >&2
        return 2
    else
        rendezvous=(--nnodes "$nnodes" --node-rank "${NODE_RANK:-0}"
            --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" \
        --nproc-per-node "$processes" "$@"
}
