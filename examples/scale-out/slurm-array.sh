#!/usr/bin/env bash
#SBATCH --job-name=touchstone
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --hint=nomultithread
#SBATCH --time=02:00:00
#SBATCH --requeue
#
# One run in as many parts as the array has tasks. Submit it where all nodes see the directory:
#
#     sbatch --export=ALL,RUN=$PWD/runs/today slurm-array.sh bench --suite standard
#     touchstone report runs/today/* --html report.html      # when all are done
#
# Arguments go on to touchstone. RUN is where the parts go, one directory each. TOUCHSTONE is the
# executable, if it is not on the PATH. A task that is put back into the queue goes on where it was.

set -euo pipefail

: "${SLURM_ARRAY_TASK_ID:?this is for sbatch: see the comment at its top}"
: "${RUN:?set RUN to a directory that all nodes see}"

# Arrays may begin anywhere; shards are counted from 1.
shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))

mkdir -p "$RUN"
exec "${TOUCHSTONE:-touchstone}" "${@:-check}" \
    --shard "$shard/$SLURM_ARRAY_TASK_COUNT" \
    --out "$RUN/$shard" --resume
