"""Files of settings in folders of others: what they can make somebody's command do. Two users."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
from services.two_users import TwoUsers

from minionize import settings


@pytest.fixture
def folder(pair: TwoUsers, request: pytest.FixtureRequest) -> Path:
    """A folder of bob's with a queue of three params, in which the group works."""
    folder = pair.folder(request.node.name.partition("[")[0] + str(time.monotonic_ns()))
    fed = pair.sh(pair.bob, "seq 3 | minion feed", cwd=folder)
    assert fed.status == 0, fed.err
    return folder


def _write(pair: TwoUsers, path: Path, text: str, *, of: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, getattr(pair, of).uid if of != "root" else 0, path.parent.stat().st_gid)


LOOKS = ("status", "list", "show 1", "results", "failures", "jobs", "config", "doctor")


def test_the_env_file_of_another_sends_nothing_of_mine_anywhere(
    pair: TwoUsers, folder: Path
) -> None:
    """Its queue would be on a server of his, and its variables name files of hers."""
    secret = pair.ann.home / "secret"
    _write(pair, secret, "hidden", of="ann", mode=0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"MINION_QUEUE=redis://127.0.0.1:{port}/0?stream=x\nREDIS_PASSWORD_FILE={secret}\n"
        _write(pair, folder / ".env", text, of="bob")
        server.settimeout(0.1)
        for look in (*LOOKS, "feed params", "stop"):
            ran = pair.sh(pair.ann, f"echo 9 >params; minion {look}", cwd=folder)
            assert f".env is left out: it belongs to {pair.bob.name}" in ran.err, (look, ran.err)
            assert ran.status in (0, 1), (look, ran.err)
        ran = pair.sh(pair.ann, "minionize true", cwd=folder)
        assert f".env is left out: it belongs to {pair.bob.name}" in ran.err
        assert ran.status == 0, ran.err
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_variable_of_another_reaches_my_program(pair: TwoUsers, folder: Path) -> None:
    text = "LD_PRELOAD=/none.so\nPYTHONSTARTUP=/none.py\nBASH_ENV=/none\nFROM_BOB=1\n"
    _write(pair, folder / ".env", text, of="bob")
    ran = pair.sh(pair.ann, "minionize --max-params 1 sh -c env", cwd=folder)
    assert ran.status == 0
    assert not {line.partition("=")[0] for line in ran.out.splitlines()} & {
        "LD_PRELOAD", "PYTHONSTARTUP", "BASH_ENV", "FROM_BOB"
    }  # fmt: skip


def test_no_command_of_another_s_project_file_is_run(pair: TwoUsers, folder: Path) -> None:
    section = f"{{local: {{O: 'setup=touch {folder}/proof'}}}}"
    text = f"command: touch {folder}/proof\nlaunch: {section}\n"
    _write(pair, folder / ".minionize.yml", text, of="bob")
    for command in ("minionize", "minion run", "minion launch local", "minion launch local true"):
        ran = pair.sh(pair.ann, command, cwd=folder)
        left_out = f".minionize.yml is left out: it belongs to {pair.bob.name}"
        assert left_out in ran.err, (command, ran.err)
        assert not (folder / "proof").exists(), command
    ran = pair.sh(pair.bob, "minionize --max-params 1", cwd=folder)
    assert (folder / "proof").exists() or "0 done" in ran.err  # his own counts for him


@pytest.mark.parametrize("name", [".env", ".minionize.yml"])
@pytest.mark.parametrize(
    ("of", "mode", "said"),
    [
        ("ann", 0o644, ""), ("root", 0o644, ""), ("ann", 0o600, ""),
        ("ann", 0o664, "others may write it: chmod go-w"),
        ("ann", 0o666, "others may write it: chmod go-w"),
        ("root", 0o664, "others may write it: chmod go-w"),
        ("bob", 0o644, "it belongs to"), ("bob", 0o444, "it belongs to"),
    ],
)  # fmt: skip
def test_whose_file_counts(
    pair: TwoUsers, folder: Path, name: str, of: str, mode: int, said: str
) -> None:
    text = "MINION_SLOTS=3\n" if name == ".env" else "slots: 3\n"
    _write(pair, folder / name, text, of=of, mode=mode)
    ran = pair.sh(pair.ann, "minion config --json", cwd=folder)
    assert ran.status == 0, ran.err
    value = json.loads(ran.out)["slots"]["value"]
    assert value == (1 if said else 3)
    assert (f"{name} is left out: {said}" in ran.err) == bool(said)


def test_a_link_or_a_second_name_of_another_s_is_no_file_of_mine(
    pair: TwoUsers, folder: Path
) -> None:
    """It leads to a file of hers, that speaks of another place."""
    own = pair.ann.home / f"own{time.monotonic_ns()}"
    _write(pair, own, "MINION_SLOTS=3\n", of="ann")
    assert pair.sh(pair.bob, f"ln -s {own} .env", cwd=folder).status == 0
    ran = pair.sh(pair.ann, "minion config --json", cwd=folder)
    assert json.loads(ran.out)["slots"]["value"] == 1
    assert f"it is a link of {pair.bob.name}" in ran.err
    (folder / ".env").unlink()
    beside = folder.parent / f"own{time.monotonic_ns()}"
    _write(pair, beside, "MINION_SLOTS=3\n", of="ann")
    os.link(beside, folder / ".env")  # as bob can where the system does not protect from it
    ran = pair.sh(pair.ann, "minion config --json", cwd=folder)
    assert json.loads(ran.out)["slots"]["value"] == 1
    assert "it has a second name elsewhere" in ran.err
    # A link of her own is hers.
    (folder / ".env").unlink()
    assert pair.sh(pair.ann, f"ln -s {own} .env", cwd=folder).status == 0
    ran = pair.sh(pair.ann, "minion config --json", cwd=folder)
    assert json.loads(ran.out)["slots"]["value"] == 3


def test_what_only_looks_exports_nothing(pair: TwoUsers, folder: Path) -> None:
    """Not even of her own file: PATH would choose which squeue is asked."""
    tools = pair.ann.home / f"tools{time.monotonic_ns()}"
    proof = pair.ann.home / f"proof{time.monotonic_ns()}"
    tools.mkdir()
    _write(pair, tools / "squeue", f"#!/bin/sh\ntouch {proof}\n", of="ann", mode=0o755)
    pair.ann.own(tools)
    _write(pair, folder / ".env", f"PATH={tools}\n", of="ann")
    launches = folder / "minion-queue/launches"
    launches.mkdir()
    record = {
        "scheduler": "slurm", "job_ids": ["1"], "name": "x", "queue": "file:/q", "minions": 1,
        "at": 1.0, "user": "ann", "host": "h", "logs": [], "details": {}, "version": 1,
    }  # fmt: skip
    _write(pair, launches / "slurm-1.json", json.dumps(record), of="ann")
    env = f"env -u PATH PYTHONPATH={pair.ann.home}/lib"
    main = "from minionize.cli.minion import main; main()"
    ran = pair.sh(pair.ann, f"{env} $(command -v python3) -c '{main}' jobs", cwd=folder)
    assert "slurm-1" in ran.out, ran.err
    assert not proof.exists()


def test_known_settings_of_a_file_count_for_what_only_looks(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("MINION_QUEUE=q\nREDIS_PASSWORD=x\nOTHER=1\nLD_PRELOAD=y\n")
    before = dict(os.environ)
    loaded = settings.load(exporting=False)
    assert loaded.settings.queue == "q"
    assert loaded.origins["queue"] == ".env: MINION_QUEUE"
    assert loaded.settings.env["REDIS_PASSWORD"] == "x"
    assert not {"OTHER", "LD_PRELOAD"} & set(loaded.settings.env)
    assert dict(os.environ) == before
    settings.load()
    assert os.environ["LD_PRELOAD"] == "y"
