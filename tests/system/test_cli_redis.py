"""The command line over a Redis that wants a password: the variables, copies to and from other
kinds, and that the password is nowhere to be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.processes import until
from services.redis import RedisServer, lacking

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
MINIONIZE = [sys.executable, "-m", "minionize.cli.minionize"]
SECRET = "S3cret-Pass"


class Here:
    """A folder to type commands in; what they showed is kept."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.cwd = folder / "here"
        self.cwd.mkdir()
        self.server = server
        self.shown = ""
        # As a project would have it: nothing in the environment, all in .env.
        self.env = {**os.environ, "PYTHONPATH": str(ROOT)}
        (folder / "password").write_text(f"{SECRET}\n")
        (self.cwd / ".env").write_text(
            "MINION_ENGINE=redis\nMINION_REPORTER=redis\nREDIS_HOST=127.0.0.1\n"
            f"REDIS_PORT={server.port}\nREDIS_STREAM=runs\n"
            f"REDIS_PASSWORD_FILE={folder / 'password'}\n"
        )

    def run(self, program: list[str], *args: str, status: int = 0, **env: str) -> str:
        """All that was shown."""
        ran = subprocess.run(
            [*program, *args],
            cwd=self.cwd,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        self.shown += ran.stdout
        assert ran.returncode == status and "Traceback" not in ran.stdout, (args, ran.stdout)
        return ran.stdout


@pytest.fixture
def here(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Here]:
    if why := lacking("valkey"):
        needs_server(why)
    with RedisServer(tmp_path / "server", "valkey", "--requirepass", SECRET) as server:
        yield Here(tmp_path, server)


def test_variables_name_a_queue_and_its_password_shows_nowhere(here: Here) -> None:
    said = here.run(MINION, "feed", "--grid", "x=1:5")
    url = f"redis://127.0.0.1:{here.server.port}/0?stream=runs"
    assert "minion feed: made " in said and f"4 params put: {url}, 4 waiting" in said
    program = ["sh", "-c", 'test "$1" != 2', "x", "{x}"]
    here.run(MINIONIZE, "--max-attempts", "1", *program, status=1)
    (dead,) = here.run(MINION, "list").splitlines()
    looks = ["status", "status --json", "list", "failures", "results --all", "config"]
    looks += ["config --json", "doctor", f"show {dead.split()[0]}", "retry", "purge --yes"]
    for command in looks:
        here.run(MINION, *command.split())
    # Wrong, away, and unknown: what is said of errors has it neither.
    wrong = f"redis://:{SECRET}-not@127.0.0.1:{here.server.port}/0?stream=runs"
    assert "wants another user or password" in here.run(MINION, "status", status=69,
                                                        MINION_QUEUE=wrong)  # fmt: skip
    here.run(MINION, "status", status=2, MINION_QUEUE=f"{wrong}&strem=x")
    here.server.kill()
    here.run(MINION, "status", status=69)
    here.run(MINIONIZE, "--reconnect", "0", "true", status=69)
    assert SECRET not in here.shown
    assert not [path for path in here.cwd.iterdir() if path.name != ".env"]


def test_nothing_of_a_password_is_kept_by_the_server_or_seen_in_ps(here: Here) -> None:
    here.run(MINION, "feed", "--grid", "x=1:5")
    minion = subprocess.Popen(
        [*MINIONIZE, "-j", "2", "sh", "-c", "sleep 60", "x"],
        cwd=here.cwd,
        env=here.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    client = here.server.client(password=SECRET)
    try:
        until(lambda: "running 2" in here.run(MINION, "status"), "two run")
        listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True,
                                check=True).stdout  # fmt: skip
        # The server's own line has it: it is started so here.
        mine = [line for line in listed.splitlines() if "minionize" in line or "sleep 60" in line]
        assert mine and not [line for line in mine if SECRET in line]
    finally:
        minion.terminate()
        _, said = minion.communicate(timeout=180)
    assert SECRET not in said
    kept = b"".join(client.dump(key) or b"" for key in client.scan_iter())
    assert b"sleep" in kept  # the report's command is there, so this looks at the right things
    assert SECRET.encode() not in kept
    client.close()


def test_copies_between_redis_and_folders(here: Here) -> None:
    url = f"redis://127.0.0.1:{here.server.port}/0?stream="
    here.run(MINION, "feed", "-q", "one", "--grid", "x=0:2500")
    said = here.run(MINION, "cp", "one", f"{url}a")
    assert "minion cp: made " in said
    assert f"2,500 params copied: file:one to {url}a, 2,500 waiting" in said
    assert "2,500 waiting" in here.run(MINION, "cp", f"{url}a", f"{url}b")
    assert "2,500 params moved" in here.run(MINION, "cp", "--move", f"{url}b", "two")
    assert "2,500 params copied" in here.run(MINION, "cp", f"{url}a", "execo:three")
    first = here.run(MINION, "list", "-q", "one", "--json")
    for name in ("two", "execo:three", f"{url}a"):
        other = here.run(MINION, "list", "-q", name, "--json")
        params = [
            sorted(line.partition('"param": ')[2] for line in text.splitlines())
            for text in (first, other)
        ]
        assert params[0] == params[1], name
    assert "waiting 0   delayed 0   running 0" in here.run(MINION, "status", "-q", f"{url}b")
    here.run(MINION, "cp", "--no-create", "one", f"{url}none", status=2)
    assert SECRET not in here.shown
