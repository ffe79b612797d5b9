"""A launch with everything in it, and the scripts that OAR and Slurm are to get for it."""

from __future__ import annotations

from minionize.launch import Launch

FULL = Launch(
    minions=30,
    queue="file:/shared/my runs",
    command=("./ising", "--seed", "{seed}", "it's", "two\nlines\n#OAR -t deploy\n#SBATCH -N 9"),
    minionize=("/home/ann/venv/bin/minionize",),
    minionize_options=("--slots", "auto"),
    name="my scan",
    wall_time_s=5400,
    cpus=4,
    gpus=2,
    workdir="/home/ann/it's here",
    folder="/shared/my runs/launches",
    env={"OMP_NUM_THREADS": "4", "GREETING": "hello $USER"},
    secret_env={"REDIS_PASSWORD": "/home/ann/.redis password"},
)

END = r"""
cd -- '/home/ann/it'"'"'s here' || exit 2
module load python
export OMP_NUM_THREADS=4
export GREETING='hello $USER'
REDIS_PASSWORD=$(cat -- '/home/ann/.redis password') || exit 2; export REDIS_PASSWORD
exec /home/ann/venv/bin/minionize --queue 'file:/shared/my runs' --slots auto REQUEUE-- """ + (
    r"""./ising --seed '{seed}' 'it'"'"'s' $'two\x0alines\x0a#OAR -t deploy\x0a#SBATCH -N 9'
"""
)

OAR = r"""#!/usr/bin/env bash
#OAR -n my scan
#OAR --array 30
#OAR -l /nodes=1/gpu=2/core=2,walltime=1:30:00
#OAR -t besteffort
#OAR -t idempotent
#OAR -t timesharing=user,name
#OAR -p cluster = 'a' AND mem > 64000
#OAR -q production
#OAR --project ising
#OAR --checkpoint 60
#OAR --signal 12
#OAR --notify mail:ann@example.org
#OAR -d /home/ann/it's here
#OAR -O /shared/my runs/launches/logs/my-scan.%jobid%.out
#OAR -E /shared/my runs/launches/logs/my-scan.%jobid%.out

set --""" + END.replace("REQUEUE", "--requeue ")

SLURM = (
    r"""#!/usr/bin/env bash
#SBATCH --job-name="my scan"
#SBATCH --array=1-30%8
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=2048M
#SBATCH --gres=gpu:2
#SBATCH --time=1:30:00
#SBATCH --partition=low
#SBATCH --account=ann
#SBATCH --requeue
#SBATCH --signal=B:USR1@90
#SBATCH --output="/shared/my runs/launches/logs/my-scan.%A_%a.out"
#SBATCH --open-mode=append
#SBATCH --exclusive

set --
unset MINION_PARAM MINION_PARAM_FILE MINION_PARAM_ID MINION_ATTEMPT MINION_ID MINION_SLOT \
MINION_DEADLINE MINION_JOB MINION_CHECKPOINT_DIR
export SLURM_JOB_END_TIME=$(($(date +%s) + 5400))""".replace("\\\n", "")
    + END.replace("REQUEUE", "")
)

OAR_OPTIONS = {
    "type": ("timesharing=user,name",),
    "property": ("cluster = 'a' AND mem > 64000",),
    "queue": ("production",),
    "project": ("ising",),
    "notify": ("mail:ann@example.org",),
    "setup": ("module load python",),
}

SLURM_OPTIONS = {
    "partition": ("low",),
    "account": ("ann",),
    "throttle": ("8",),
    "warn": ("90",),
    "sbatch": ("--exclusive",),
    "setup": ("module load python",),
}
