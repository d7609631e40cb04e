#!/usr/bin/env bash
# A search on Slurm: sbatch deploy/slurm.sh search small --data /shared/an4 --results /shared/studies --study an4 --resume
# Change the lines below to your machines; the environment and the folders are on the shared file system.
#SBATCH --job-name=b2t-tuner
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=b2t-tuner-%j.log
set -euo pipefail
: "${B2T_VENV:?export B2T_VENV=/shared/venv before sbatch: an environment with the program installed}"
export PATH="$B2T_VENV/bin:$PATH" OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
# Other users of the head's machine must not reach this Ray: one random token, for this job only.
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="$head:$((20000 + SLURM_JOB_ID % 20000))"

# Ray starts on all nodes, the driver on the first; when it ends, so does Ray. The time limit and scancel arrive as
# SIGTERM and are passed on: the driver writes its last events, and the same line with --resume goes on.
srun --kill-on-bad-exit=0 ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  -- tuner "$@" --address "$address" &
steps=$!
trap 'pkill -TERM -u "$(id -u)" -f "bin/tuner .*--address $address" || true' TERM
status=0
wait "$steps" || status=$?
while kill -0 "$steps" 2>/dev/null; do  # the trap ended the wait, not the steps
  status=0
  wait "$steps" || status=$?
done
exit "$status"
