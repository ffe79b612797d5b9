"""The shell that stays with a run of podman without root, over a podman that only says so."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from services.processes import until

from minionize.callbacks.container_host import never_ran
from minionize.callbacks.container_runtime import Place, Runtime, fixed_words, run_words
from minionize.contracts.callback import Invocation

AT = "2026-11-25 04:22:55.123456789 -0500 EST"
NEVER = "0001-01-01 00:00:00 +0000 UTC"

PODMAN = """\
#!/bin/sh
here=$(dirname "$0")
echo "$1" >>"$here/log"
case $1 in
run)
    for word; do
        case $word in --conmon-pidfile=*) echo 1 >"${word#*=}" ;; esac
    done
    sh -c "$(cat "$here/client")" "$@"
    exit
    ;;
container) cat "$here/says" ;;
rm) test ! -e "$here/deaf" && echo n || rm "$here/deaf" ;;
esac
"""


class Fake:
    """A podman whose client does `client`, and which says of any container what is in `says`."""

    def __init__(self, folder: Path, client: str, says: str) -> None:
        self.folder = folder
        self.conmon = folder / "conmon"
        self.runtime = Runtime("podman", str(folder / "podman"), keep_id=True)
        (folder / "podman").write_text(PODMAN)
        (folder / "podman").chmod(0o755)
        (folder / "client").write_text(client)
        (folder / "says").write_text(says)

    def start(self) -> subprocess.Popen[bytes]:
        words = run_words(
            self.runtime, fixed_words(self.runtime, Place(str(self.folder))), "img",
            Invocation(["prog"]), folder=str(self.folder), name=f"minion-{self.folder.name}",
            conmon=str(self.conmon),
        )  # fmt: skip
        return subprocess.Popen(words, cwd=self.folder, start_new_session=True)

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()

    @property
    def never_ran(self) -> bool:
        """What the minion makes of a 0."""
        return never_ran(self.runtime, "n", str(self.conmon))


@pytest.mark.parametrize(
    ("status", "says", "ends", "lost"),
    [
        (0, f"exited 0 {AT}", 0, False),
        (0, f"exited 7 {AT}", 7, False),
        (0, f"stopped 143 {AT}", 143, False),
        (0, f"exited 0 {NEVER}", 0, True),
        (0, f"exited -1 {AT}", 0, True),
        (0, f"running 0 {AT}", 0, True),
        (0, f"created 0 {NEVER}", 0, True),
        (0, "", 0, True),
        (3, f"exited 0 {AT}", 3, False),
        (125, "", 125, False),
        (137, f"running 0 {AT}", 137, False),
    ],
)
def test_a_zero_is_what_podman_says_of_the_container(
    tmp_path: Path, status: int, says: str, ends: int, lost: bool
) -> None:
    fake = Fake(tmp_path, f"exit {status}", says)
    assert (fake.start().wait(60), fake.never_ran) == (ends, lost)
    asked = fake.log().count("container")
    assert asked == 0 if status else asked == 1 if says else asked > 1
    assert fake.log()[-1] == "rm"


def test_a_client_that_ends_leaves_its_second_process_and_that_is_waited_for(
    tmp_path: Path,
) -> None:
    second = f'while test ! -e go; do sleep 0.05; done; echo "exited 7 {AT}" >says'
    fake = Fake(tmp_path, f"sh -c '{second}' \"$@\" & exit 0", f"exited 0 {AT}")
    shell = fake.start()
    until(fake.conmon.exists, "it is not started")
    # The same is told to all of a job again and again, also while the shell waits.
    for _ in range(3):
        os.kill(shell.pid, signal.SIGTERM)
    assert shell.poll() is None
    (tmp_path / "go").touch()
    assert shell.wait(60) == 7


def test_a_removal_that_is_cut_off_is_done_again(tmp_path: Path) -> None:
    fake = Fake(tmp_path, "exit 0", f"exited 0 {AT}")
    (tmp_path / "deaf").touch()
    assert fake.start().wait(60) == 0
    assert fake.log()[-2:] == ["rm", "rm"] and fake.log().count("rm") == 2
