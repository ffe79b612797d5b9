"""What happens to pods on a real control plane, and to the params that they held: deleted, out of
memory, their node gone, time over, cancelled, and each exit status that means something."""

from __future__ import annotations

import pytest
from services.kubernetes.room import Room, running
from services.processes import until

from minionize import open_queue
from minionize.launch import JobState, Submitted
from minionize.launch.kubernetes import cancel, states
from minionize.status.read import Faults, read_events
from minionize.values import Stats

# Its first run, anywhere, takes for ever; what it did is seen in the volume.
FOR_EVER_ONCE = """\
if mkdir "/data/started-$1" 2>/dev/null; then
    hostname >"/data/started-$1/host"
    exec sleep 600
fi
echo "$1 done at attempt $MINION_ATTEMPT"
"""


def _stats(room: Room) -> Stats:
    with open_queue(room.queue) as queue:
        return queue.stats()


def _until_started(room: Room, submitted: Submitted, *names: object) -> None:
    until(
        lambda: all((room.folder / f"started-{name}").exists() for name in names),
        lambda: room.told(submitted),
    )


def _said(room: Room) -> str:
    return "".join(room.log(pod["metadata"]["name"]) for pod in room.pods())


def test_a_deleted_pod_is_replaced_and_nothing_is_charged(room: Room) -> None:
    room.feed(["a", "b"])
    submitted = room.launch("sh", "-c", FOR_EVER_ONCE, "sh", "{}", minions=2)
    _until_started(room, submitted, "a", "b")
    for pod in running(room.pods()):
        room.api.call("DELETE", f"{room.path}/pods/{pod['metadata']['name']}")
    assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
    said = _said(room)
    assert "a done at attempt 1" in said and "b done at attempt 1" in said
    assert _stats(room).done == 2
    # Two pods ended with 75, which counts for nothing.
    assert not room.job(submitted)["status"].get("failed")


def test_a_pod_out_of_memory_is_replaced_and_its_param_runs_again(room: Room) -> None:
    eat = "import time; x = b'x' * (300 << 20); time.sleep(60)"
    greedy = f"""\
if mkdir "/data/started-$1" 2>/dev/null; then exec python -c "{eat}"; fi
echo "$1 done"
"""
    room.feed(["a"])
    submitted = room.launch(
        "sh", "-c", greedy, "sh", "{}", memory_mib=128, minionize=["--lease", "5"],
    )  # fmt: skip
    seen = room.until_pods(
        lambda pods: [pod for pod in pods if pod["status"]["phase"] == "Failed"], "none failed"
    )
    ended = [pod["status"]["containerStatuses"][0]["state"].get("terminated") for pod in seen]
    assert {"exitCode": 137, "reason": "OOMKilled"}.items() <= ended[0].items()
    job = states([submitted])[0]
    assert job.state is not JobState.PENDING or job.detail in ("", "to be replaced: OOMKilled")
    assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
    assert _stats(room).done == 1
    # It is a failure of this pod's index, which may have some.
    assert room.job(submitted)["status"]["failed"] == 1


def test_a_node_that_is_gone_costs_nothing(room: Room) -> None:
    with (
        room.cluster.node("shaky-1", "shaky") as first,
        room.cluster.node("shaky-2", "shaky") as second,
    ):
        room.feed(["a"])
        submitted = room.launch(
            "sh", "-c", FOR_EVER_ONCE, "sh", "{}", minions=2,
            # With nothing to take, the other one stays all the same.
            minionize=["--lease", "5", "--idle", "1", "--keep-idle", "0"],
            options={"select": ["pool=shaky"], "tolerate": ["pool"], "request": ["cpu=5"]},
        )  # fmt: skip
        _until_started(room, submitted, "a")
        room.until_pods(lambda pods: len(running(pods)) == 2, "not both")
        host = until(lambda: (room.folder / "started-a" / "host").read_text().strip(), "no host")
        lost = next(pod for pod in room.pods() if pod["spec"]["hostname"] == host)
        node = lost["spec"]["nodeName"]
        {"shaky-1": first, "shaky-2": second}[node].process.kill()
        # The other minion takes over, while the cluster still finds out.
        until(lambda: _stats(room).done == 1, lambda: room.told(submitted))
        room.until_pods(
            lambda pods: any("deletionTimestamp" in pod["metadata"] for pod in pods), "none lost"
        )
        # A person says that the node is off: till then its pods might be at work.
        room.taint(node, "node.kubernetes.io/out-of-service")
        assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
        status = room.job(submitted)["status"]
        assert status["completedIndexes"] == "0,1" and not status.get("failed")
        assert {job.where for job in states([submitted])} == {"shaky-1", "shaky-2"} - {node}


@pytest.mark.parametrize(
    "program, status", [("exit 65", 1), ("exec /no/such/program", 127)], ids=["dead", "missing"]
)
def test_what_no_other_pod_can_mend_ends_the_job(room: Room, program: str, status: int) -> None:
    room.feed(["a", "b"])
    argv = ["sh", "-c", program, "sh", "{}"] if status == 1 else ["/no/such/program"]
    submitted = room.launch(*argv, minions=2)
    condition = room.wait(submitted)
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    assert f"exit code {status} matching FailJob rule at index 2" in condition["message"]
    assert len(room.pods()) <= 2  # none was replaced
    assert JobState.FAILED in {job.state for job in states([submitted])}


def test_statuses_that_are_no_failure_are_not_counted(room: Room) -> None:
    """With no failure allowed, a minion that ends with 75 is replaced until it ends with 0."""
    room.feed(["a"])
    submitted = room.launch(
        "sh", "-c", 'n=$(ls /data | grep -c try); mkdir "/data/try-$n"; test "$n" = 2 || '
        "kill -TERM $PPID; sleep 0.5; test $n = 2", "sh", options={"backoff_limit": ["0"]},
    )  # fmt: skip
    assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
    assert not room.job(submitted)["status"].get("failed")
    ended = sorted(
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        for pod in room.pods()
    )
    assert ended == [0, 75, 75]


def test_the_wall_time_ends_a_job_gently(room: Room) -> None:
    room.feed(["a", "b"])
    submitted = room.launch("sh", "-c", FOR_EVER_ONCE, "sh", "{}", wall_time_s=4.0)
    _until_started(room, submitted, "a")
    condition = room.wait(submitted)
    assert (condition["type"], condition["reason"]) == ("Failed", "DeadlineExceeded")
    until(lambda: _stats(room).running == 0, "still running")
    stats = _stats(room)
    assert (stats.waiting, stats.done, stats.dead) == (2, 0, 0)
    assert _failures(room) == 0


def test_a_cancelled_launch_gives_back_what_it_held(room: Room) -> None:
    room.feed(["a", "b", "c"])
    submitted = room.launch("sh", "-c", FOR_EVER_ONCE, "sh", "{}", minions=2)
    _until_started(room, submitted, "a", "b")
    assert cancel(submitted) == 2
    seen = {job.state for job in states([submitted])}
    assert seen <= {JobState.RUNNING, JobState.CANCELLED}
    until(lambda: not room.pods() and not states([submitted]), "not gone")
    assert cancel(submitted) == 0
    stats = _stats(room)
    assert (stats.waiting, stats.running, stats.done) == (3, 0, 0)
    assert _failures(room) == 0


def _failures(room: Room) -> int:
    """How many attempts failed by themselves, as the report in the queue's folder says."""
    faults = Faults()
    events = read_events(room.folder / "queue" / "report", faults)
    return sum(event.charged for _, event in events)


def test_a_pod_without_its_secret_waits_for_it(room: Room) -> None:
    room.feed(["a"])
    submitted = room.launch(
        "sh", "-c", 'echo "$TOKEN"', secret_env={"TOKEN": "vault:token"},
    )  # fmt: skip
    until(lambda: "vault is not there" in states([submitted])[0].detail, "no word of the secret")
    assert states([submitted])[0].state is JobState.PENDING
    room.api.call("POST", f"{room.path}/secrets", {
        "metadata": {"name": "vault"}, "stringData": {"token": "s3cret $(HOME) $$"}})  # fmt: skip
    assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
    assert "s3cret $(HOME) $$" in _said(room)
    assert "s3cret" not in str(room.job(submitted))


def test_why_a_pod_can_not_start_is_told(room: Room) -> None:
    nowhere = room.launch("true", options={"select": ["pool=none"]})
    missing = room.launch("true", options={"image": ["missing/image:1"]})
    until(lambda: "didn't match" in states([nowhere])[0].detail, "no word of the nodes")
    until(lambda: "ErrImagePull" in states([missing])[0].detail, "no word of the image")
    room.api.call("POST", f"{room.path}/resourcequotas", {
        "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})  # fmt: skip
    until(lambda: "exceeded quota" in _refused(room), "no word of the quota")


def _refused(room: Room) -> str:
    """What is told of a launch that gets no pod."""
    submitted = room.launch("true")
    try:
        return until(lambda: states([submitted])[0].detail, "no reason", timeout_s=20.0)
    finally:
        cancel(submitted)
