#!/bin/bash
#SBATCH --job-name=hansa
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue

# `hansa train` goes on from the newest checkpoint when the job is started again.
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# In run.toml: [runtime] kind = "ray", workers = 64, address = "auto"
srun ray symmetric-run \
    --address "$head:6379" \
    --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" \
    -- \
    hansa train run.toml
