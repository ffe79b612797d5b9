"""ContainerCallback: a program is started for each param, in a container of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from minionize.callbacks import container_host as host
from minionize.callbacks.container_runtime import (
    MINION,
    OWNER,
    Place,
    Runtime,
    ailment,
    below,
    check_image,
    check_options,
    fixed_words,
    remove_words,
    run_words,
    sweep_words,
)
from minionize.callbacks.process import HOOKS, ProcessCallback, overridden_hooks
from minionize.callbacks.quoting import pasteable
from minionize.contracts.callback import Invocation, ProgramCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import CommandNotExecutable, CommandNotFound, MinionizeError
from minionize.values import Lease

OUT_OF_MEMORY = "out of memory"
_PARAM_BYTES = 100 * 1024
"""A param of so many bytes may be in a file, whose folder is mounted then."""


class Containers:
    """The containers of one minion: an `Apart` of contracts.callback."""

    def __init__(
        self,
        image: str,
        *,
        runtime: str | None = None,
        options: Sequence[str] = (),
        path: str = os.defpath,
        program: str | None = None,
    ) -> None:
        """`runtime`: its name or path (None: the first on `path`). `options`: of its `run`, as
        `memory=2g`. `program`: the first word of every run, where no param decides it.
        UsageError for what can't be."""
        check_options(options)
        self.runtime: Runtime = host.find_runtime(runtime, path)
        check_image(self.runtime, image)
        if not self.runtime.apart and "://" not in image:
            # A file: it is there whatever the folder of a run.
            image = os.path.abspath(image)
        self.image = image
        self.say: Callable[[str], None] = lambda line: None
        self.sweeper: list[str] = []
        self._options = tuple(options)
        self._program = program
        self._owner = host.owner()
        self._names: dict[int, str] = {}
        self._count = 0
        self._oom_kills = host.OomKills()
        self._ran = False
        self._prefix = ""
        self._scratch = ""
        self._place = Place(os.getcwd(), (), os.geteuid(), os.getegid())
        self._fixed = fixed_words(self.runtime, self._place, self._options)

    def check(self) -> None:
        """Before anything is leased: is the image here (else it is pulled), does the runtime
        answer? Removes what killed minions left on this host."""
        host.need_image(self.runtime, self.image, self.say)
        host.remove_left_overs(self.runtime, self._owner, self.say)

    def joins(self, minion_id: str, *, scratch: str, checkpoints: str | None) -> None:
        """Whose runs these are, and what they see of this host."""
        mounts: tuple[str, ...] = ()
        folder = self._place.folder
        if checkpoints is not None:
            # Docker would make it as root, podman would refuse.
            checkpoints = os.path.abspath(checkpoints)
            os.makedirs(checkpoints, exist_ok=True)
            if not below(checkpoints, (folder,)):
                mounts = (checkpoints,)
        labels = {MINION: minion_id, OWNER: self._owner}
        self._place = self._place._replace(mounts=mounts, labels=labels)
        self._fixed = fixed_words(self.runtime, self._place, self._options)
        self._prefix = f"minion-{minion_id}"
        self._scratch = scratch
        os.makedirs(scratch, mode=0o700, exist_ok=True)
        self.sweeper = sweep_words(self.runtime, minion_id)

    def around(self, run: Invocation, lease: Lease, slot: int) -> Invocation:
        """`run` in a container of its own. Its files stay this side; its folder is mounted."""
        place = self._place
        folder, mounts = place.folder, []
        if run.chdir is not None:
            folder = os.path.abspath(run.chdir)
            if "/" in run.argv[0]:
                # A program's path counts from where the minion was started.
                run = run._replace(argv=[os.path.join(place.folder, run.argv[0]), *run.argv[1:]])
            if not below(folder, (place.folder, *place.mounts)):
                mounts.append(folder)
        large = self._scratch and len(lease.text) * 4 >= _PARAM_BYTES
        if large and not below(self._scratch, (place.folder, *place.mounts)):
            mounts.append(self._scratch)
        name = conmon = ""
        if self._prefix:
            self._count += 1
            name = self._names[slot] = f"{self._prefix}-{slot}.{self._count}"
            conmon = self._conmon(slot)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(conmon)
        argv = run_words(
            self.runtime, self._fixed, self.image, run, folder=folder, mounts=mounts, name=name,
            param_id=lease.id if name else "", conmon=conmon,
        )  # fmt: skip
        return run._replace(argv=argv)

    def _conmon(self, slot: int) -> str:
        return os.path.join(self._scratch, f"{slot}.conmon")

    def remover(self, slot: int) -> list[str]:
        """What removes the container that was last started in this slot."""
        name = self._names.get(slot)
        return remove_words(self.runtime, [name] if name else [])

    def judge(self, outcome: Outcome) -> Outcome:
        """Whose fault it is if the program was never started, and whether memory was over."""
        status = outcome.exit_status
        if self.runtime.apart:
            outcome = outcome._replace(cpu_s=None, peak_kib=None, peak_below=False)
        if status == 0 and host.never_ran(
            self.runtime, self._names[outcome.slot], self._conmon(outcome.slot)
        ):
            return outcome._replace(
                verdict=Verdict.ABORTED, exit_status=None, reason="its container never started"
            )
        if not status or outcome.verdict in (Verdict.DONE, Verdict.ABORTED):
            self._ran = self._ran or outcome.verdict is Verdict.DONE
            return outcome
        why = ailment(self.runtime, status, outcome.detail)
        if why is None:
            self._ran = True
            failed = outcome.verdict is Verdict.FAILED and outcome.reason != "timeout"
            if status == 137 and failed and self._oom_kills.one_more():
                return outcome._replace(reason=OUT_OF_MEMORY)
            return outcome
        kind = self.runtime.kind
        if why.kind == "runtime":
            if not self._ran:
                raise MinionizeError(
                    f"{kind} can't run {self.image}: {why.words}: mend that, or --container-option"
                )
            return outcome._replace(
                verdict=Verdict.UNABLE, reason=f"no process can be started: {kind}: {why.words}"
            )
        self._ran = True
        what = "may not be executed" if why.kind == "refused" else "is not there"
        if self._program is None:
            return outcome._replace(
                verdict=Verdict.FAILED, reason=f"its program {what} in the image"
            )
        error = CommandNotExecutable if why.kind == "refused" else CommandNotFound
        raise error(
            f"program {pasteable(self._program)} {what} in image {pasteable(self.image)}: "
            "mend CMD, or the image"
        )


class ContainerCallback(ProcessCallback):
    """Starts a program for each param, in a container of `image`. Override `to_cmd`.

    The working folder is mounted at its own path, the run's MINION_ variables are passed on, and
    the user is the caller. `image`, `runtime` and `options` can be set by a subclass as well.
    """

    image: str = ""
    runtime: str | None = None
    options: Sequence[str] = ()

    def __init__(
        self,
        image: str | None = None,
        *,
        runtime: str | None = None,
        options: Sequence[str] | None = None,
    ) -> None:
        """`runtime`: podman, docker or apptainer (None: the first that is there). `options`: of
        its `run`, as `["memory=2g", "gpus=all"]`."""
        self.apart = Containers(
            self.image if image is None else image,
            runtime=runtime or self.runtime,
            options=self.options if options is None else options,
            path=os.environ.get("PATH", os.defpath),
        )

    def check_program(self) -> None:
        """Is the image here? Raises what keeps containers from being run."""
        self.apart.check()

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        """How the program is started for this lease."""
        return self.apart.around(super().invocation(lease, slot), lease, slot)


class Contained:
    """Another callback's programs, each in a container of its own: `--image`."""

    def __init__(self, inner: ProgramCallback, containers: Containers) -> None:
        self.inner = inner
        self.apart = containers
        command: Any = getattr(inner, "command", type(inner).__name__)
        self.command = f"{containers.runtime.kind}: {containers.image}: {command}"
        for hook in HOOKS:
            if hook in overridden_hooks(inner):
                setattr(self, hook, getattr(inner, hook))

    def check_program(self) -> None:
        """Is the image here? Raises what keeps containers from being run."""
        self.apart.check()

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        """The run of the other callback, in a container."""
        return self.apart.around(self.inner.invocation(lease, slot), lease, slot)

    def shown(self, lease: Lease, slot: int = 0) -> str:
        """The run of this param as a line to paste into a shell."""
        from minionize.callbacks.command import as_line

        return as_line(self.invocation(lease, slot), lease)
