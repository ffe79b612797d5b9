"""A real Slurm on this machine: controller and two nodes of one CPU, each session its own.

It has a partition `low`, whose jobs are requeued for those of `high`, and its own munged. All of
it listens on loopback, on free ports.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from services.processes import Server, free_ports, missing, until

_PROGRAMS = (
    ("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("sbatch", "slurm-client"),
    ("munged", "munge"),
)  # fmt: skip

_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MaxArraySize={array_size}
MinJobAge={forgets_s}
{more}NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=5 MaxTime=10
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=off
"""


def lacking() -> str:
    """What Slurm lacks here; empty if nothing."""
    if os.geteuid() != 0:
        return "Slurm needs root"
    return missing(_PROGRAMS)


class Slurm:
    """Slurm at work in `folder`, which `with` makes and leaves."""

    def __init__(
        self,
        folder: Path,
        *,
        array_size: int = 1001,
        forgets_s: int = 300,
        accounting: bool = False,
        cluster: str = "t",
        beside: Slurm | None = None,
    ) -> None:
        """`forgets_s`: so long after its end the controller forgets a job, more or less.
        `accounting`: with a slurmdbd, see services.accounting. `beside`: another cluster, at work,
        with which it shares munge and slurmdbd."""
        self.folder = folder
        self.cluster = cluster
        self._beside = beside
        self.accounts = ""
        """Lines of its configuration."""
        self._array_size = array_size
        self._forgets_s = forgets_s
        self._accounting = accounting
        self._stack = contextlib.ExitStack()

    @property
    def env(self) -> dict[str, str]:
        """What its commands need."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Slurm:
        with self._stack as stack:
            (self.folder / "state").mkdir(parents=True)
            if self._beside is None:
                self._start_munge(stack)
            ports = free_ports(3)
            if self._beside is not None:
                self.accounts = self._beside.accounts
            elif self._accounting:
                self.accounts = self._start_accounts(stack)
            (self.folder / "slurm.conf").write_text(
                _CONF.format(
                    host=socket.gethostname().partition(".")[0],
                    folder=self.folder,
                    cluster=self.cluster,
                    munge=(self._beside or self).folder,
                    controller=ports[0],
                    first=ports[1],
                    second=ports[2],
                    array_size=self._array_size,
                    forgets_s=self._forgets_s,
                    more=self.accounts,
                )
            )
            controller = self._server(stack, "slurmctld", "-D", "-c")
            controller.ready(lambda: self.call("scontrol", "ping").returncode == 0)
            for node in ("n1", "n2"):
                self._server(stack, "slurmd", "-D", "-N", node)
            until(
                lambda: set(self.ok("sinfo", "--noheader", "-N", "-o", "%t").split()) == {"idle"},
                lambda: f"no two nodes: {self.ok('sinfo', '-lN')}",
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        self._stack.close()

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return subprocess.run(
            argv, cwd=self.folder, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip

    def ok(self, *argv: str) -> str:
        """The output of one of its commands, which must not fail."""
        ran = self.call(*argv)
        assert ran.returncode == 0, f"{argv}: {ran.stderr}"
        return ran.stdout

    def states(self) -> Mapping[str, str]:
        """All tasks it remembers, `1_2`, and their states."""
        said = self.ok("squeue", "--noheader", "--array", "--states=all",
                       "--Format=JobArrayID:|,State:|")  # fmt: skip
        return dict(line.split("|")[:2] for line in said.splitlines() if "|" in line)

    def _start_munge(self, stack: contextlib.ExitStack) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {
            name: self.folder / f"munge.{name}"
            for name in ("socket", "log-file", "pid-file", "seed")
        }
        argv = [
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}",
            f"--log-file={files['log-file']}", f"--pid-file={files['pid-file']}",
            f"--seed-file={files['seed']}", "--num-threads=2",
        ]  # fmt: skip
        server = Server(argv, self.folder / "munged.out")
        stack.callback(server.stop)
        server.ready(files["socket"].exists)

    def _start_accounts(self, stack: contextlib.ExitStack) -> str:
        from services.accounting import Accounting

        return stack.enter_context(Accounting(self.folder)).settings

    def _server(self, stack: contextlib.ExitStack, *argv: str) -> Server:
        path = self.folder / f"{argv[0]}{argv[-1]}.log"
        words = ["env", *(f"{name}={value}" for name, value in self.env.items()), *argv]
        server = Server(words, path)
        stack.callback(server.stop)
        return server
