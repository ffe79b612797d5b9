"""What a member of a group can do to another one through a queue's folder: two real users."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from services.two_users import TwoUsers

from minionize.launch.local import began


@pytest.fixture
def queue(pair: TwoUsers, request: pytest.FixtureRequest) -> Path:
    """Bob's queue of three params in a folder of its own, in which the group works."""
    folder = pair.folder(request.node.name.partition("[")[0] + str(time.monotonic_ns()))
    fed = pair.sh(pair.bob, "seq 3 | minion feed", cwd=folder)
    assert fed.status == 0, fed.err
    return folder / "minion-queue"


# ---- records of launches


def _record(**changes: object) -> str:
    record = {
        "scheduler": "local", "job_ids": ["1"], "name": "x", "queue": "file:/q", "minions": 1,
        "at": 1.0, "user": "ann", "host": socket.gethostname(), "logs": [], "details": {},
        "version": 1, **changes,
    }  # fmt: skip
    return json.dumps(record)


def _of_process(pid: int) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    details = {str(pid): began(pid), "boot": boot}
    return _record(job_ids=[str(pid)], details=details)


def _plant(pair: TwoUsers, queue: Path, text: str) -> None:
    """Bob puts a record among the launches."""
    launches = queue / "launches"
    (queue.parent / "text").write_text(text)
    done = pair.sh(pair.bob, f"mkdir -p {launches} && cp text {launches}/local-7.json",
                   cwd=queue.parent)  # fmt: skip
    assert done.status == 0, done.err


def test_a_record_of_another_ends_no_process_of_mine(pair: TwoUsers, queue: Path) -> None:
    process = pair.start(pair.ann, "sleep", "600")
    try:
        _plant(pair, queue, _of_process(process.pid))
        told = pair.ann.run("minion", "cancel", "--all", cwd=queue.parent)
        assert (told.status, told.out) == (0, "")
        assert pair.bob.name in told.err
        assert "left alone" in told.err
        named = pair.ann.run("minion", "cancel", "local-7", cwd=queue.parent)
        assert named.status == 2
        assert process.poll() is None
        # The same record is believed by its own owner, who may not end that process.
        own = pair.bob.run("minion", "cancel", "--all", cwd=queue.parent)
        assert "ask them to" in own.err
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_my_own_record_that_others_may_write_is_not_believed(pair: TwoUsers, queue: Path) -> None:
    process = pair.start(pair.ann, "sleep", "600")
    try:
        _plant(pair, queue, _of_process(process.pid))
        record = queue / "launches/local-7.json"
        os.chown(record, pair.ann.uid, record.stat().st_gid)
        record.chmod(0o664)
        told = pair.ann.run("minion", "cancel", "--all", cwd=queue.parent)
        assert "chmod go-w" in told.err
        assert process.poll() is None
        record.chmod(0o644)  # and now it is
        told = pair.ann.run("minion", "cancel", "--all", cwd=queue.parent)
        assert "1 minion told to end" in told.out
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("change", ["ticks", "boot", "host"])
def test_a_process_that_is_another_than_the_recorded_one_is_left_alone(
    pair: TwoUsers, queue: Path, change: str
) -> None:
    process = pair.start(pair.ann, "sleep", "600")
    try:
        record = json.loads(_of_process(process.pid))
        if change == "ticks":
            record["details"][str(process.pid)] += "1"
        elif change == "boot":
            record["details"]["boot"] = "another"
        else:
            record["host"] = "elsewhere"
        _plant(pair, queue, json.dumps(record))
        os.chown(queue / "launches/local-7.json", pair.ann.uid, -1)
        (queue / "launches/local-7.json").chmod(0o644)
        pair.ann.run("minion", "cancel", "--all", cwd=queue.parent)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("id", ["0", "-1", "--all", "1 2", "", "a\nb", "../7"])
def test_an_id_that_is_none_is_never_given_to_a_scheduler(
    pair: TwoUsers, queue: Path, id: str
) -> None:
    """Not even on the word of a record of the caller's own."""
    _plant(pair, queue, _record(job_ids=[id]))
    os.chown(queue / "launches/local-7.json", pair.ann.uid, -1)
    (queue / "launches/local-7.json").chmod(0o644)
    told = pair.ann.run("minion", "cancel", "--all", cwd=queue.parent)
    assert told.status == 0, told.err
    assert "told to end" not in told.out.replace("0 minions told", "")


def test_no_program_of_a_kubeconfig_in_a_record_is_run(pair: TwoUsers, queue: Path) -> None:
    """Neither of another's record, nor of one of root's: a record chooses no configuration."""
    proof = queue.parent / "proof"
    config = queue.parent / "kubeconfig"
    command = f'{{"apiVersion":"client.authentication.k8s.io/v1","command":"/usr/bin/touch","args":["{proof}"],"interactiveMode":"Never"}}'  # noqa: E501
    config.write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:9'}}}}]\n"
        f"contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        f"users: [{{name: u, user: {{exec: {command}}}}}]\n"
    )
    details = {"kubeconfig": str(config), "namespace": "default"}
    _plant(pair, queue, _record(scheduler="kubernetes", job_ids=["x-1"], details=details))
    for command in ("jobs", "cancel --all", "logs"):
        pair.ann.run("minion", *command.split(), cwd=queue.parent)
        assert not proof.exists()
    os.chown(queue / "launches/local-7.json", 0, 0)
    (queue / "launches/local-7.json").chmod(0o644)
    for command in ("jobs", "cancel --all", "logs"):
        told = pair.ann.run("minion", *command.split(), cwd=queue.parent)
        assert "KUBECONFIG=" in told.out + told.err, told
        assert not proof.exists()


@pytest.mark.parametrize("what", ["fifo", "link", "folder", "huge", "deep"])
def test_odd_things_among_the_records_block_nothing(pair: TwoUsers, queue: Path, what: str) -> None:
    make = {
        "fifo": "mkfifo launches/local-7.json",
        "link": "ln -s /etc/passwd launches/local-7.json",
        "folder": "mkdir launches/local-7.json",
        "huge": "truncate -s 1T launches/local-7.json || true",
        "deep": "head -c 100000 /dev/zero | tr '\\0' '[' >launches/local-7.json",
    }[what]
    made = pair.sh(pair.bob, f"mkdir -p launches && {make}", cwd=queue)
    assert made.status == 0, made.err
    told = pair.ann.run("minion", "jobs", cwd=queue.parent, timeout_s=20)
    assert told.status == 0, told.err
    assert "Error" not in told.err


def test_scripts_and_logs_of_mine_are_not_where_others_could_change_them(
    pair: TwoUsers, queue: Path
) -> None:
    """They would run as me, or write over a file of mine."""
    launched = pair.ann.run(
        "minion", "launch", "local", "-n", "1", "-O", "output=files", "echo", "hello",
        cwd=queue.parent,
    )  # fmt: skip
    assert launched.status == 0, launched.err
    state = pair.ann.home / ".local/state/minionize/launches"
    assert str(state) in launched.err
    assert [path.name for path in (queue / "launches").iterdir() if path.is_dir()] == []
    assert "hello" in "".join(path.read_text() for path in (state / "logs").iterdir())
    logs = pair.ann.run("minion", "logs", cwd=queue.parent)
    assert "hello" in logs.out
    record = next((queue / "launches").glob("local-*.json"))
    assert record.stat().st_mode & 0o022 == 0


def test_launches_that_is_a_link_is_named_and_refused(pair: TwoUsers, queue: Path) -> None:
    mine = pair.ann.home / f"private{time.monotonic_ns()}"
    mine.mkdir()
    pair.ann.own(mine)
    assert pair.sh(pair.bob, f"ln -s {mine} launches", cwd=queue).status == 0
    told = pair.ann.run("minion", "jobs", cwd=queue.parent)
    assert (told.status, told.err.count("\n")) == (2, 1)
    assert "launches: it is a symbolic link" in told.err
    ran = pair.ann.run("minion", "launch", "local", "-O", "output=files", "true", cwd=queue.parent)
    assert "symbolic link" in ran.err
    assert list(mine.iterdir()) == []


# ---- params

HOSTILE = ("$(touch proof)", "; touch proof", "`touch proof`", "a'\"; touch proof #", "../../x",
           "--version", "-n", "{id}", "%s", "*")  # fmt: skip


def test_params_of_another_are_only_text(pair: TwoUsers, queue: Path) -> None:
    (queue.parent / "hostile").write_text("".join(f"{each}\n" for each in HOSTILE))
    fed = pair.sh(pair.bob, "minion purge --yes; minion feed hostile", cwd=queue.parent)
    assert fed.status == 0, fed.err
    ran = pair.sh(pair.ann, "minionize printf '%s\\n'", cwd=queue.parent)
    assert ran.status == 0, ran.err
    assert sorted(ran.out.splitlines()) == sorted(HOSTILE)
    shell = "minion retry --done && minionize --shell 'printf \"%s\\n\" {}'"
    again = pair.sh(pair.ann, shell, cwd=queue.parent)
    assert again.status == 0, again.err
    assert sorted(again.out.splitlines()[-len(HOSTILE) :]) == sorted(HOSTILE)
    kept = pair.sh(pair.ann, "minion retry --done && minionize basename -- {}", cwd=queue.parent)
    assert "--version" in kept.out
    assert not list(queue.parent.glob("proof"))


def test_a_param_in_the_path_of_output_chooses_the_path_and_an_id_does_not(
    pair: TwoUsers, queue: Path
) -> None:
    (queue.parent / "hostile").write_text("../../chosen\n")
    fed = pair.sh(pair.bob, "minion purge --yes; minion feed hostile", cwd=queue.parent)
    assert fed.status == 0, fed.err
    place = pair.ann.home / f"outputs{queue.parent.name}" / "a"
    for word in ("id", ""):
        script = f"minion retry --done; minionize --stdout '{place}/b/{{{word}}}' echo x"
        ran = pair.sh(pair.ann, script, cwd=queue.parent)
        assert "1 done" in ran.err, ran.err
        left = [path for path in place.parent.rglob("*") if path.is_file()]
        assert [path.parent == place / "b" for path in left if path.name != "chosen"] == [True]
        assert (place.parent / "chosen").exists() == (not word)


def test_a_pickle_among_the_params_is_only_text(pair: TwoUsers, queue: Path) -> None:
    """Of the classic kind, which is ASCII."""
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(queue.parent / "sprung"),)

    text = pickle.dumps(Trap(), protocol=0).decode("ascii")
    (queue.parent / "params.jsonl").write_text(json.dumps(text) + "\n")
    assert pair.sh(pair.bob, "minion feed params.jsonl", cwd=queue.parent).status == 0
    assert (
        pair.sh(pair.ann, "minionize true; minion list; minion show 4", cwd=queue.parent).status
        == 0
    )
    assert not (queue.parent / "sprung").exists()
