"""The environment of a scheduler's commands: what was asked of us counts, not variables.

Slurm's commands take an option from each of many variables (`SBATCH_TIMELIMIT`, `SQUEUE_USERS`,
`SCANCEL_STATE`), and `sbatch` gives a new job all variables of the process that submits it, those
of that process's own job too. So whole families are left out, by their prefix: a later version has
members that no list of ours would know.
"""

from __future__ import annotations

from collections.abc import Mapping

from minionize.values import RUN_VARIABLES

_FAMILIES = (
    "SLURM_", "SLURMD_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SACCT_", "SACCTMGR_",
    "SCANCEL_", "SCONTROL_", "SINFO_",
    # What a job of another scheduler, or a step of a parallel program, is told of itself.
    "OAR_", "PBS_", "PMI_", "PMIX_",
)  # fmt: skip
_KEPT = frozenset({"SLURM_CONF", "SLURM_JWT"})
"""How Slurm is reached."""
PLACEMENT = frozenset({"SBATCH_ACCOUNT", "SBATCH_CLUSTERS", "SBATCH_CONSTRAINT", "SBATCH_PARTITION",
                       "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_WCKEY",
                       "SLURM_CLUSTERS"})  # fmt: skip
"""On whose account a job runs, and where, as a person or a site says it once for all jobs. It holds
where the launch does not say it; the command line of `sbatch` wins over it."""


def asking(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a command that asks, or tells, a scheduler something about jobs. Slurm's times
    become Unix times there."""
    return {**_without(env, frozenset()), "SLURM_TIME_FORMAT": "%s"}


def submitting(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a command that submits; `sbatch` passes it on to the new job."""
    found = _without(env, PLACEMENT)
    for name in RUN_VARIABLES:
        found.pop(name, None)
    return found


def unheeded(env: Mapping[str, str]) -> list[str]:
    """The variables by which `sbatch` alone would take an option, and does not under us."""
    return sorted(name for name in env if name.startswith("SBATCH_") and name not in PLACEMENT)


def _without(env: Mapping[str, str], more: frozenset[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name in _KEPT or name in more or not name.startswith(_FAMILIES)
    }
