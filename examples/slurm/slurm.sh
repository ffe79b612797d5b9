#!/usr/bin/env bash
#SBATCH --job-name=scan
#SBATCH --array=1-10
#SBATCH --cpus-per-task=1
#SBATCH --time=1:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@60

# sbatch slurm.sh

set -eux

pip install minionize

# exec: so that Slurm's signals (B: to the script itself) reach minionize, and not the shell.
exec minionize --slots auto --requeue echo "hello from $SLURM_JOB_ID"
