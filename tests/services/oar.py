"""A real OAR on this machine: its server, its database, and one node with two resources.

OAR is a system's own: one at a time, configured in /etc, which is put back as it was at the end.
Servers listen on loopback as far as OAR has a word for that, on free ports.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.account import Account, python
from services.processes import Server, free_ports, missing, run, until

USER = "minionize-oar"
_CLUSTER = "minionize"
"""Of PostgreSQL."""
_CONF = Path("/etc/oar/oar.conf")
_SSHD = Path("/etc/oar/sshd_config")
_PROGRAMS = (
    ("Almighty", "oar-server"), ("oarnodesetting", "oar-node"), ("oarsub", "oar-user"),
    ("pg_createcluster", "postgresql-common"),
)  # fmt: skip


def lacking() -> str:
    """What OAR lacks here; empty if nothing."""
    if os.geteuid() != 0:
        return "OAR needs root"
    if why := missing(_PROGRAMS):
        return why
    if not glob.glob("/usr/lib/postgresql/*/bin/postgres"):
        return "PostgreSQL is missing: apt-get install oar-server-pgsql"
    if not glob.glob("/usr/share/perl5/DBD/Pg.pm") and not glob.glob(
        "/usr/lib/*/perl5/*/DBD/Pg.pm"
    ):
        return "Perl's DBD::Pg is missing: apt-get install oar-user-pgsql"
    if not python():
        return "there is no Python that any user can execute"
    return ""


class Oar:
    """OAR at work. `with Oar(folder) as oar`: one at a time on this machine; others wait."""

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        """`folder`: for the logs of its servers; `more`: for its configuration."""
        self.account = Account(USER)
        self._more = more or {}
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Oar:
        with self._stack as stack:
            stack.enter_context(_alone())
            stack.enter_context(_restored(_CONF))
            stack.enter_context(_restored(_SSHD))
            port, server_port, sshd_port = free_ports(3)
            _configure(port, server_port, sshd_port, self._more)
            stack.enter_context(_database(port))
            stack.enter_context(self.account)
            self._start(stack, server_port, sshd_port)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs ever, by id, as `oarstat --json --full` shows them."""
        said = self.account.ok("oarstat", "--json", "--full", "--sql", "job_id > 0")
        found: dict[str, dict[str, Any]] = json.loads(said) if said.strip() else {}
        return found

    def _start(self, stack: contextlib.ExitStack, server_port: int, sshd_port: int) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        sshd = Server(["/usr/sbin/sshd", "-D", "-e", "-f", str(_SSHD)], self._folder / "sshd.log")
        stack.callback(sshd.stop)
        sshd.ready(lambda: _answers(sshd_port))
        almighty = Server(["/usr/sbin/Almighty"], self._folder / "almighty.log")
        stack.callback(_end_group, almighty)
        almighty.ready(lambda: _answers(server_port))
        for cpuset in range(2):
            run("oarnodesetting", "-a", "-h", "localhost", "-p", f"cpuset={cpuset}")
        until(
            lambda: run("oarnodes", "--sql", "state = 'Alive'", "--list").split(),
            lambda: f"no node is alive: {run('oarnodes')}",
        )


def _configure(port: int, server_port: int, sshd_port: int, more: Mapping[str, str]) -> None:
    told: Mapping[str, str] = {
        "DB_PORT": str(port),
        "DB_BASE_PASSWD": "oar",
        "DB_BASE_PASSWD_RO": "oar",
        "SERVER_PORT": str(server_port),
        "OPENSSH_CMD": f"/usr/bin/ssh -p {sshd_port} -e none",
        "SCHEDULER_JOB_SECURITY_TIME": "2",
        "SCHEDULER_MIN_TIME_BETWEEN_2_CALLS": "1",
        "LOG_FILE": "/var/log/oar.log",
        **more,
    }
    text = _CONF.read_text()
    for key, value in told.items():
        text = re.sub(rf"(?m)^#?{key}=.*\n", "", text) + f'{key}="{value}"\n'
    # Without cgroups of version 1, as in many containers, jobs go without a cpuset.
    text = re.sub(r"(?m)^(JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD=)", r"#\1", text)
    _CONF.write_text(text)
    kept = [
        line
        for line in _SSHD.read_text().splitlines()
        if not re.match(r"(Port|ListenAddress|UsePrivilegeSeparation|KeyRegeneration|KeyAlive"
                        r"|KeepAlive|ServerKeyBits)", line)
    ]  # fmt: skip
    _SSHD.write_text("\n".join([f"Port {sshd_port}", "ListenAddress 127.0.0.1", *kept, ""]))


@contextlib.contextmanager
def _database(port: int) -> Iterator[None]:
    version = sorted(os.listdir("/usr/lib/postgresql"), key=float)[-1]
    if Path(f"/etc/postgresql/{version}/{_CLUSTER}").exists():
        run("pg_dropcluster", "--stop", version, _CLUSTER)
    run("pg_createcluster", version, _CLUSTER, "-p", str(port), "--",
        "--auth-local=peer", "--auth-host=trust", "--no-sync")  # fmt: skip
    try:
        options = "-c fsync=off -c listen_addresses=127.0.0.1"
        run("pg_ctlcluster", version, _CLUSTER, "start", "-o", options)
        run("oar-database", "--create", "--db-admin-user=postgres", "--db-admin-pass=x", "-y",
            timeout_s=180.0)  # fmt: skip
        yield
    finally:
        run("pg_dropcluster", "--stop", version, _CLUSTER)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One OAR at a time: the tests of several processes take turns."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minionize-tests"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "oar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _restored(path: Path) -> Iterator[None]:
    """Put the text of `path` back; a copy beside it outlives a test that is killed."""
    kept = path.with_name(path.name + ".before-minionize-tests")
    if not kept.exists():
        kept.touch(0o600)
        kept.write_bytes(path.read_bytes())
    path.write_bytes(kept.read_bytes())
    try:
        yield
    finally:
        path.write_bytes(kept.read_bytes())
        kept.unlink()


def _end_group(server: Server) -> None:
    """Almighty's children stand in its session, and outlive it."""
    server.stop()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
