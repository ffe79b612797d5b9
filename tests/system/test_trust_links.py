"""Links, pipes and second names that a member of a group puts into a queue's folder: whatever
another member's command does there, it changes nothing elsewhere and waits for nothing."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from services.two_users import TwoUsers


@pytest.fixture
def queue(pair: TwoUsers, request: pytest.FixtureRequest) -> Path:
    """Bob's queue of three params in a folder of its own, in which the group works."""
    folder = pair.folder(request.node.name.partition("[")[0] + str(time.monotonic_ns()))
    fed = pair.sh(pair.bob, "seq 3 | minion feed", cwd=folder)
    assert fed.status == 0, fed.err
    return folder / "minion-queue"


@pytest.fixture
def mine(pair: TwoUsers) -> Path:
    """A folder of ann's own, with a file and folders named as those of a queue."""
    folder = pair.ann.home / f"mine{time.monotonic_ns()}"
    made = pair.ann.run(
        "sh", "-c",
        f"mkdir -p {folder}/1 {folder}/2 {folder}/3 {folder}/logs && cd {folder} && "
        "for name in 1/a 2/a 3/a 00000001.jsonl draft.2.0 file; do echo precious >$name; done",
    )  # fmt: skip
    assert made.status == 0, made.err
    return folder


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


COMMANDS = (
    "minion status", "minion list", "minion show 1", "minion results", "minion failures",
    "minionize --max-params 1 --max-failures-in-a-row 1 false",
    "minion feed --dedupe params", "minion feed params", "minion retry --done", "minion jobs",
    "minionize --max-attempts 1 sh -c 'test $1 != 2' x", "minionize --capture echo",
    "minion cp file:minion-queue file:copy", "minion doctor",
    "minion purge --yes", "minion wait --timeout 1", "minion stop",
)  # fmt: skip

PLACES = (
    "checkpoints", "report", "launches", "params", "returned", "returned/*", "dead", "purged",
    "minions",
)  # fmt: skip


def _swap(pair: TwoUsers, queue: Path, place: str, script: str) -> None:
    """Bob puts something else in a place of the queue, which he may."""
    moved = f"mv {place} aside 2>/dev/null; {script}"
    assert pair.sh(pair.bob, moved, cwd=queue).status == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_of_a_queue_that_is_a_link(
    pair: TwoUsers, queue: Path, mine: Path, place: str
) -> None:
    (queue.parent / "params").write_text("9\n")
    names = place.replace("*", "[0-9]*")
    link = f"for f in {names}; do mv -T $f aside.$(basename $f); ln -s {mine} $f; done"
    assert pair.sh(pair.bob, f"({link}) 2>/dev/null; ls -l {place}", cwd=queue).status == 0
    before = _content(mine)
    said = ""
    for command in COMMANDS:
        ran = pair.sh(pair.ann, command, cwd=queue.parent)
        said += ran.err
        assert "Traceback" not in ran.err, (command, ran.err)
        assert "unexpected" not in ran.err, (command, ran.err)
        assert _content(mine) == before, command
    assert re.search(rf"{place.replace('*', '[0-9]+')}: it is a symbolic link", said)


FILES = (
    "head", "fed.jsonl", "dedupe.lock", "dedupe.sqlite", "dedupe.sqlite-journal",
    "params/00000001.jsonl", "params/00000002.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("target", ["there", "missing"])
@pytest.mark.parametrize("place", FILES)
def test_a_file_of_a_queue_that_is_a_link(
    pair: TwoUsers, queue: Path, mine: Path, place: str, target: str
) -> None:
    (queue.parent / "params").write_text("9\n")
    to = mine / ("file" if target == "there" else "new")
    _swap(pair, queue, place, f"ln -s {to} {place}")
    before = _content(mine)
    for command in COMMANDS:
        ran = pair.sh(pair.ann, command, cwd=queue.parent)
        assert "Traceback" not in ran.err, (command, ran.err)
        assert "unexpected" not in ran.err, (command, ran.err)
        assert _content(mine) == before, (command, ran.err)


@pytest.mark.parametrize("make", ["mkfifo", "mkdir"])
@pytest.mark.parametrize("place", [*FILES, "report/x-1-ab.roll", "report/x-1-ab.0001.jsonl"])
def test_a_pipe_in_the_place_of_a_file_blocks_nothing(
    pair: TwoUsers, queue: Path, place: str, make: str
) -> None:
    (queue.parent / "params").write_text("9\n")
    _swap(pair, queue, place, f"mkdir -p $(dirname {place}) && {make} {place}")
    for command in COMMANDS:
        ran = pair.ann.run("sh", "-c", f"umask 002; {command}", cwd=queue.parent, timeout_s=60)
        assert "Traceback" not in ran.err, (command, ran.err)
        assert "unexpected" not in ran.err, (command, ran.err)


@pytest.mark.parametrize(
    "place",
    ["head", "fed.jsonl", "dedupe.lock", "dedupe.sqlite", "dedupe.sqlite-journal",
     "params/00000002.jsonl", "returned/1/00000001.jsonl", "dead/00000001.jsonl"],
)  # fmt: skip
def test_a_second_name_of_a_file_of_mine_is_not_written_to(
    pair: TwoUsers, queue: Path, place: str
) -> None:
    """As bob can make it where the system does not protect from that: root makes it for him."""
    (queue.parent / "params").write_text("9\n")
    precious = queue.parent / "precious"
    precious.write_text("precious\n" * 1000)
    os.chown(precious, pair.ann.uid, -1)
    precious.chmod(0o600)
    (queue / place).unlink(missing_ok=True)
    os.link(precious, queue / place)
    for command in COMMANDS:
        ran = pair.sh(pair.ann, command, cwd=queue.parent)
        assert "Traceback" not in ran.err, (command, ran.err)
        assert "unexpected" not in ran.err, (command, ran.err)
        assert precious.read_text() == "precious\n" * 1000, command


def test_the_checkpoint_of_one_param_that_is_a_link(
    pair: TwoUsers, queue: Path, mine: Path
) -> None:
    """The link goes, what it leads to stays; nothing is written through it by the minion."""
    before = _content(mine)
    linked = f"mkdir checkpoints && cd checkpoints && ln -s {mine} 1 && mkdir 2 && ln -s {mine} 2/x"
    assert pair.sh(pair.bob, linked, cwd=queue).status == 0
    ran = pair.sh(pair.ann, "minionize true", cwd=queue.parent)
    assert _content(mine) == before
    assert "Traceback" not in ran.err
    assert not (queue / "checkpoints/2").exists()


def test_no_program_is_given_a_checkpoint_folder_that_is_a_link(
    pair: TwoUsers, queue: Path, mine: Path
) -> None:
    before = _content(mine)
    assert pair.sh(pair.bob, f"ln -s {mine} checkpoints", cwd=queue).status == 0
    script = 'mkdir -p "$MINION_CHECKPOINT_DIR" && echo mine >"$MINION_CHECKPOINT_DIR/state"'
    ran = pair.sh(pair.ann, f"minionize sh -c '{script}'", cwd=queue.parent)
    assert ran.status == 2, ran.err
    assert "checkpoints: it is a symbolic link" in ran.err
    assert _content(mine) == before
    assert "waiting 3" in pair.sh(pair.bob, "minion status", cwd=queue.parent).out


def test_a_folder_that_is_swapped_all_the_time(pair: TwoUsers, queue: Path, mine: Path) -> None:
    """Bob exchanges `checkpoints` for a link and back while ann's minion removes checkpoints."""
    before = _content(mine)
    assert pair.sh(pair.bob, "seq 4 400 | minion feed", cwd=queue.parent).status == 0
    swapper = pair.start(
        pair.bob, "/usr/bin/python3", "-c",
        "import os, itertools\n"
        "os.umask(0o002)\n"
        f"os.symlink({str(mine)!r}, 'link')\n"
        "os.makedirs('checkpoints', exist_ok=True)\n"
        "for i in itertools.count():\n"
        "    for a, b in (('checkpoints', 'aside'), ('link', 'checkpoints'),\n"
        "                 ('checkpoints', 'link'), ('aside', 'checkpoints')):\n"
        "        try: os.rename(a, b)\n"
        "        except OSError: pass\n"
        "    os.makedirs(f'checkpoints/{i % 400}', exist_ok=True)\n",
        cwd=queue,
    )  # fmt: skip
    try:
        for _ in range(6):
            ran = pair.sh(pair.ann, "minionize --max-params 60 true", cwd=queue.parent)
            assert "Traceback" not in ran.err, ran.err
            assert _content(mine) == before
        assert swapper.poll() is None
    finally:
        swapper.kill()
        swapper.wait()


def test_members_of_a_group_work_on_one_queue(pair: TwoUsers, queue: Path) -> None:
    """All this keeps nobody from what the folder is for."""
    for who, params in ((pair.ann, "4 6"), (pair.bob, "7 9")):
        fed = pair.sh(who, f"seq {params} | minion feed --dedupe", cwd=queue.parent)
        assert (fed.status, "3 params put" in fed.out) == (0, True), fed.err
    again = pair.sh(pair.ann, "seq 9 | minion feed --dedupe", cwd=queue.parent)
    assert "0 params put" in again.out, again.out + again.err
    script = 'mkdir -p "$MINION_CHECKPOINT_DIR" && touch "$MINION_CHECKPOINT_DIR/x"; test $1 != 5'
    for who in (pair.bob, pair.ann):
        ran = pair.sh(
            who, f"minionize --max-params 4 --max-attempts 1 sh -c '{script}' x", cwd=queue.parent
        )
        assert ran.status in (0, 1), ran.err
    assert pair.sh(pair.bob, "minionize --max-attempts 1 true", cwd=queue.parent).status in (0, 1)
    assert pair.sh(pair.ann, "minion retry", cwd=queue.parent).status == 0
    assert pair.sh(pair.ann, "minionize true", cwd=queue.parent).status == 0
    for who in (pair.ann, pair.bob):
        told = pair.sh(who, "minion status", cwd=queue.parent)
        assert "done 9" in told.out, told.out
        assert pair.sh(who, "minion results", cwd=queue.parent).out.count("\n") == 10
    assert list((queue / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    "command", ["status", "list", "show 1", "results", "failures", "wait --timeout 1"]
)
def test_who_may_only_read_a_queue_is_told_which_right_is_missing(
    pair: TwoUsers, queue: Path, command: str
) -> None:
    assert pair.sh(pair.bob, "minionize true && chmod -R g-w .", cwd=queue.parent).status == 0
    ran = pair.sh(pair.ann, f"minion {command}", cwd=queue.parent)
    assert ran.status == 2, ran.out + ran.err
    assert "you need the right to" in ran.err and "write there" in ran.err, ran.err
    assert ran.err.count("\n") == 1
    assert pair.sh(pair.bob, "chmod -R g+w .", cwd=queue.parent).status == 0
    assert pair.sh(pair.ann, f"minion {command}", cwd=queue.parent).status == 0
