"""A real slurmdbd and its database, as a Slurm of the tests needs them for `sacct`.

The database stands in the Slurm's folder and listens on a socket there alone.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path

from services.processes import Server, ServerFailed, free_port, missing

_PROGRAMS = (
    ("slurmdbd", "slurmdbd"), ("sacct", "slurm-client"), ("mariadbd", "mariadb-server-core"),
)  # fmt: skip

_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")

_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounts
"""

_SETTINGS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
"""


def lacking() -> str:
    """What accounting lacks here, besides Slurm; empty if nothing."""
    return missing(_PROGRAMS)


class Accounting:
    """The two servers, at work while `with` lasts. Munge is, already."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the Slurm."""
        self.folder = folder
        self._port = free_port()
        self._stack = contextlib.ExitStack()

    @property
    def settings(self) -> str:
        """Lines for slurm.conf."""
        return _SETTINGS.format(folder=self.folder, port=self._port)

    def __enter__(self) -> Accounting:
        with self._stack as stack:
            self._start_database(stack)
            conf = self.folder / "slurmdbd.conf"
            conf.touch(0o600)
            host = socket.gethostname().partition(".")[0]
            conf.write_text(_CONF.format(folder=self.folder, host=host, port=self._port))
            words = ["env", f"SLURM_CONF={self.folder}/slurm.conf",
                     f"MYSQL_UNIX_PORT={self._socket}", "slurmdbd", "-D"]  # fmt: skip
            server = Server(words, self.folder / "slurmdbd.log")
            stack.callback(server.stop)
            server.ready(self._answers, timeout_s=60.0)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _socket(self) -> Path:
        return self.folder / "database.socket"

    def _start_database(self, stack: contextlib.ExitStack) -> None:
        data = self.folder / "database"
        data.mkdir()
        argv = ["mariadbd", "--no-defaults", f"--datadir={data}", "--user=root",
                "--skip-grant-tables", "--innodb-buffer-pool-size=32M"]  # fmt: skip
        # As mariadb-install-db does, which needs the packages of clients: slurmdbd has procedures.
        tables = "create database mysql;\nuse mysql;\n" + _TABLES.read_text()
        made = subprocess.run(
            [*argv, "--bootstrap"], input=tables, text=True, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        if made.returncode:
            raise ServerFailed(f"no database could be made: {made.stdout[-2000:]}")
        server = Server(
            [*argv, f"--socket={self._socket}", "--skip-networking",
             "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900",
             f"--pid-file={self.folder}/database.pid"],
            self.folder / "database.log",
        )  # fmt: skip
        stack.callback(server.stop)
        server.ready(self._socket.exists, timeout_s=60.0)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1.0).close()
        except OSError:
            return False
        return True
