"""`minion launch kubernetes` with every option, from within a run, amid variables of other runs,
jobs and clusters: the Job that the API server has is what was asked, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launches import MINION, ROOT
from services.kubernetes.room import CLAIM, Room

from minionize import open_queue
from minionize.cli.launch import PASSED_ON, params
from minionize.launch.kubernetes import KEYS
from minionize.values import RUN_VARIABLES

MINIONIZE = [sys.executable, "-c", "from minionize.cli.minionize import main; main()"]
AFFINITY: dict[str, Any] = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
            ]
        }
    }
}
PASSED = {
    "slots": ("--slots", "3"), "template": ("--no-template",), "shell": ("--shell",),
    "stdin": ("--stdin",), "chdir": ("--chdir", "/data/in {x}"),
    "stdout": ("--stdout", "/data/out/{x}"), "stderr": ("--stderr", "/data/err/{x}"),
    "image": ("--image", "docker.io/me/inner"), "runtime": ("--runtime", "podman"),
    "container_options": ("--container-option", "memory=2g"),
    "timeout_s": ("--timeout", "77"), "max_attempts": ("--max-attempts", "7"),
    "max_failures_in_a_row": ("--max-failures-in-a-row", "9"),
    "on_exit": ("--on-exit", "0=done,3=dead"), "until": ("--until", "empty"),
    "max_params": ("--max-params", "11"), "max_time_s": ("--max-time", "500"),
    "min_left_s": ("--min-left", "13"), "keep_idle": ("--keep-idle", "2"),
    "requeue": ("--no-requeue",), "reporter": ("--reporter", "json"),
    "report_dir": ("--report-dir", "/data/report"), "capture": ("--capture",),
    "quiet": ("--quiet",), "lease_s": ("--lease", "90"), "reconnect_s": ("--reconnect", "91"),
    "grace_s": ("--grace", "17"), "idle_s": ("--idle", "18"),
    "checkpoint_root": ("--checkpoint-root", "/data/checkpoints"),
    "max_crashes": ("--max-crashes", "4"), "beat_file": ("--beat-file", "/tmp/beat"),
    "inline": ("--no-inline",),
}  # fmt: skip
"""What minionize is to be told there, all of it by options; --call has a launch of its own."""
ONLY_HERE = {
    "image": ["me/image:3"], "pull_policy": ["Always"], "pull_secret": ["reg-a", "reg-b"],
    "create_namespace": ["yes"], "context": ["test"], "request": ["ephemeral-storage=1Gi"],
    "limit": ["cpu=4"], "gpu": ["amd.com/gpu"], "select": ["pool=batch"],
    "affinity": [json.dumps(AFFINITY)], "tolerate": ["pool=batch:NoExecute:60"], "spot": ["gke"],
    "service_account": ["runner"], "token": ["yes"], "config_env": ["LEVEL=settings:level"],
    "volume": [f"{CLAIM}:/data", f"{CLAIM}/sub:/more:ro"], "secret_volume": ["keys:/keys"],
    "config_volume": ["settings:/settings"], "scratch": ["3Gi"], "writable_root": ["yes"],
    "user": ["1234"], "label": ["team=ising"], "annotation": ["note=a b"],
    "priority_class": ["low"], "runtime_class": ["gvisor"], "backoff_limit": ["6"],
    "ttl": ["600"],
}  # fmt: skip
"""-O KEY=, but for the three that each launch here says by itself."""
OURS = (
    "-n", "3", "--wall-time", "1h", "--cpus", "2", "--memory", "1G", "--gpus", "1",
    "--name", "Ours", "--env", "PLAIN=$(HOME) b", "--env", "TAKEN", "--secret-env", "TOKEN=s:token",
    "--minion-queue", "file:/data/queue", "--minionize", "python -m minionize.cli.minionize",
)  # fmt: skip
COMMAND = ("./ising", "--seed", "{x}", "$(HOME)", "$$")
HOSTILE = {
    **dict.fromkeys(RUN_VARIABLES, "of another run"), "MINION_DEADLINE": "1000",
    "KUBECONFIG": "/nowhere", "KUBERNETES_SERVICE_HOST": "192.0.2.1",
    "KUBERNETES_SERVICE_PORT": "1", "KUBERNETES_PORT": "tcp://192.0.2.1:1",
    "POD_NAMESPACE": "theirs", "NAMESPACE": "theirs", "JOB_COMPLETION_INDEX": "7",
    "SLURM_JOB_ID": "999", "SLURM_JOB_END_TIME": "1000", "SLURM_CPUS_ON_NODE": "64",
    "SLURM_ARRAY_TASK_ID": "7", "SBATCH_TIMELIMIT": "7", "SBATCH_WAIT": "1",
    "OAR_JOB_ID": "5", "OAR_JOB_WALLTIME_SECONDS": "1", "OAR_NODEFILE": "/nowhere",
    "PBS_JOBID": "9", "PBS_WALLTIME": "9", "NSLOTS": "8",
}  # fmt: skip
SETTINGS = {
    "queue": "file:/theirs", "call": "theirs:f", "slots": "8",
    "template": "1", "shell": "0", "stdin": "0", "capture": "0", "requeue": "1", "quiet": "0",
    "inline": "1", "until": "forever", "on_exit": "7=done", "max_attempts": "70",
    "reporter": "null", "container_options": "memory=9g", "runtime": "docker",
}  # fmt: skip
"""Other words for settings, in their variables; a number for those that are not named."""
_NUMBERS = frozenset({"timeout_s", "max_failures_in_a_row", "max_params", "max_time_s",
                      "min_left_s", "keep_idle", "lease_s", "reconnect_s", "grace_s", "idle_s",
                      "max_crashes"})  # fmt: skip


def surroundings() -> dict[str, str]:
    """All variables that could be taken for something that was asked."""
    found = dict(HOSTILE)
    for option in PASSED_ON:
        default = "6" if option.field in _NUMBERS else "/theirs"
        found[option.variable] = SETTINGS.get(option.field, default)
    return found


def words(room: Room, passed: Mapping[str, tuple[str, ...]] = PASSED) -> list[str]:
    """The line of options, which asks for all that there is."""
    chosen = [word for values in passed.values() for word in values]
    keys = {**ONLY_HERE, "namespace": [room.name], "kubeconfig": [room.cluster.kubeconfig()],
            "server": ["1.31"]}  # fmt: skip
    assert keys.keys() == KEYS.keys()
    only = [word for key, values in keys.items() for value in values
            for word in ("-O", f"{key}={value}")]  # fmt: skip
    return ["launch", "kubernetes", "-q", room.queue, *OURS, *only, *chosen]


def test_every_option_is_asked_here() -> None:
    """A new one has to be put into what is asked."""
    assert {option.field for option in PASSED_ON} - {"queue", "call"} == PASSED.keys()
    passed = {option.field for option in PASSED_ON}
    ours = {param.opts[-1] for param in params() if param.name not in passed}
    asked = {"--minions", "-O", *(word for word in OURS if word.startswith("--"))}
    assert ours == asked | {"--dry-run", "--wait", "--resubmit"}


def _launched(
    room: Room,
    line: list[str],
    folder: Path,
    *,
    hostile: bool,
    around: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The Job as the server has it, of a launch by a person; or by a run of a minion, with all
    `around` it that is hostile."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    env |= {"PYTHONPATH": str(ROOT), "TAKEN": "as it is here"}
    before = {job["metadata"]["uid"] for job in room.api.call("GET", room.jobs_path)["items"]}
    argv = [*MINION, *line]
    if hostile:
        with open_queue(f"file:{folder}/outer") as queue:
            queue.put([0])
        (folder / "argv").write_text("\0".join(argv))
        inside = (
            "import os; argv = open('argv').read().split('\\0'); "
            f"os.execve(argv[0], argv, {{**os.environ, **{dict(around or surroundings())!r}}})"
        )
        argv = [*MINIONIZE, "-q", "outer", "--stdin", "--no-template", "--", sys.executable, "-c",
                inside]  # fmt: skip
    ran = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=180, check=False)  # fmt: skip
    assert ran.returncode == 0, ran
    (made,) = (job for job in room.api.call("GET", room.jobs_path)["items"]
               if job["metadata"]["uid"] not in before)  # fmt: skip
    found: dict[str, Any] = made
    return found


def stored(room: Room) -> dict[str, Any]:
    """What the server is to have, its own defaults included."""
    labels = {"app.kubernetes.io/component": "minion", "app.kubernetes.io/name": "minionize",
              "team": "ising"}  # fmt: skip
    marks = {"labels": labels, "annotations": {"note": "a b"}}
    exits = {"containerName": "minion", "operator": "In"}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    rules = [
        {"action": "Ignore", "onPodConditions": [disrupted]},
        {"action": "Ignore", "onExitCodes": {**exits, "values": [75]}},
        {"action": "FailJob", "onExitCodes": {**exits, "values": [1, 2, 126, 127]}},
    ]
    return {
        "metadata": {"generateName": "ours-", "namespace": room.name, **marks},
        "spec": {
            "parallelism": 3, "completions": 3, "activeDeadlineSeconds": 3600,
            "podFailurePolicy": {"rules": rules}, "backoffLimit": 2147483647,
            "backoffLimitPerIndex": 6, "manualSelector": False, "ttlSecondsAfterFinished": 600,
            "completionMode": "Indexed", "suspend": False, "podReplacementPolicy": "Failed",
            "template": {"metadata": marks, "spec": _pod()},
        },
    }  # fmt: skip


def _pod() -> dict[str, Any]:
    spot = "cloud.google.com/gke-spot"
    return {
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": "3Gi"}},
            {"name": "claim-0", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "secret-0", "secret": {"secretName": "keys", "defaultMode": 0o644}},
            {"name": "config-0", "configMap": {"name": "settings", "defaultMode": 0o644}},
        ],
        "containers": [_container()],
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 27,
        "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        "nodeSelector": {spot: "true", "pool": "batch"},
        "serviceAccountName": "runner", "serviceAccount": "runner",
        "automountServiceAccountToken": True, "enableServiceLinks": False,
        "securityContext": {
            "runAsUser": 1234, "runAsGroup": 1234, "runAsNonRoot": True, "fsGroup": 1234,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": "reg-a"}, {"name": "reg-b"}],
        "affinity": AFFINITY,
        "tolerations": [
            {"key": "pool", "operator": "Equal", "value": "batch", "effect": "NoExecute",
             "tolerationSeconds": 60},
            {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": spot, "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        ],
        "priorityClassName": "low", "runtimeClassName": "gvisor",
    }  # fmt: skip


def _container() -> dict[str, Any]:
    passed = [word for field, words in PASSED.items() if field != "on_exit" for word in words]
    at = passed.index("--until")
    passed[at:at] = ["--on-exit", "0=done,3=dead,65=dead,75=later"]
    return {
        "name": "minion", "image": "me/image:3", "imagePullPolicy": "Always",
        "command": ["python", "-m", "minionize.cli.minionize", "--queue", "file:/data/queue",
                    *passed, "--", "./ising", "--seed", "{x}", "$$(HOME)", "$$$"],
        "env": [
            {"name": "PLAIN", "value": "$$(HOME) b"}, {"name": "TAKEN", "value": "as it is here"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings",
                                                                "key": "level"}}},
        ],
        "resources": {
            "limits": {"amd.com/gpu": "1", "cpu": "4", "memory": "1Gi"},
            "requests": {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "1Gi"},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"}, {"name": "claim-0", "mountPath": "/data"},
            {"name": "claim-0", "readOnly": True, "mountPath": "/more", "subPath": "sub"},
            {"name": "secret-0", "readOnly": True, "mountPath": "/keys"},
            {"name": "config-0", "readOnly": True, "mountPath": "/settings"},
        ],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": False,
                            "allowPrivilegeEscalation": False},
    }  # fmt: skip


def _asked(job: dict[str, Any]) -> dict[str, Any]:
    """The Job without what tells it from another one of the same launch."""
    metadata = job["metadata"]
    ids = {metadata["uid"], metadata["name"]}
    marks = {key: value for key, value in metadata.items()
             if key in ("generateName", "namespace", "labels", "annotations")}  # fmt: skip
    spec = {key: value for key, value in job["spec"].items() if key != "selector"}
    inner = spec["template"]["metadata"]
    labels = {key: value for key, value in inner["labels"].items() if value not in ids}
    spec["template"] = {**spec["template"], "metadata": {**inner, "labels": labels}}
    return {"metadata": marks, "spec": spec}


def test_what_was_asked_is_what_the_server_has(room: Room, tmp_path: Path) -> None:
    room.feed([{"x": 1}])
    line = [*words(room), "--", *COMMAND]
    plain = _asked(_launched(room, line, tmp_path, hostile=False))
    assert plain == stored(room)
    assert _asked(_launched(room, line, tmp_path, hostile=True)) == plain


def test_a_function_is_asked_for_by_a_run(room: Room, tmp_path: Path) -> None:
    """Where CMD would be; and nothing that was not asked is there."""
    room.feed([{"x": 1}])
    line = ["launch", "kubernetes", "-q", room.queue, "--minion-queue", "file:/data/queue",
            "-O", "image=i", "-O", f"namespace={room.name}", "-O", f"volume={CLAIM}:/data",
            "-O", f"kubeconfig={room.cluster.kubeconfig()}", "--call", "ours:f"]  # fmt: skip
    plain = _asked(_launched(room, line, tmp_path, hostile=False))
    pod = plain["spec"]["template"]["spec"]
    (minion,) = pod["containers"]
    assert minion["command"] == ["minionize", "--queue", "file:/data/queue", "--call", "ours:f"]
    assert minion["env"] == [{"name": "HOME", "value": "/tmp"}]
    assert minion["resources"] == {}
    assert {"activeDeadlineSeconds", "nodeSelector", "tolerations", "affinity"}.isdisjoint(
        {*plain["spec"], *pod}
    )
    other = surroundings()
    for option in PASSED_ON:  # those that are no option here hold by their variables
        other.pop(option.variable)
    assert _asked(_launched(room, line, tmp_path, hostile=True, around=other)) == plain
