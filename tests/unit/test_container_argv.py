"""How podman, docker and apptainer are told to run a param, and what their exits mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from minionize import ContainerCallback
from minionize.callbacks import container_host as host
from minionize.callbacks.container import Containers
from minionize.callbacks.container_runtime import (
    Ailment,
    Place,
    Runtime,
    ailment,
    check_options,
    fixed_words,
    option_words,
    remove_words,
    run_words,
    sweep_words,
)
from minionize.cli import launch_plan
from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import CommandNotExecutable, CommandNotFound, MinionizeError, UsageError
from minionize.settings import parsing
from minionize.values import RUN_VARIABLES, Lease

PODMAN = Runtime("podman", "/bin/podman", init=True)
DOCKER = Runtime("docker", "/bin/docker", init=True)
APPTAINER = Runtime("apptainer", "/bin/apptainer")
PLACE = Place("/work", ("/q/checkpoints",), 7, 8, {"minionize.minion": "h-1"})
NASTY = ["a b", "$(id)", "'\"", "x\ny", "", "-n", "--rm", ";", "{{.Id}}"]
OF_A_RUN = [f"--env={name}" for name in RUN_VARIABLES]


def words(runtime: Runtime, run: Invocation, *options: str) -> list[str]:
    fixed = fixed_words(runtime, PLACE, options)
    return run_words(runtime, fixed, "img", run, folder="/work", name="n", param_id="3")


def test_podman_gets_the_run_as_it_is() -> None:
    assert words(PODMAN, Invocation(["prog", *NASTY]), "memory=2g") == [
        "/bin/podman", "run", "--pull=never", "--log-driver=none", "--init", "--user=7:8",
        "--volume=/work:/work", "--volume=/q/checkpoints:/q/checkpoints",
        "--label=minionize.minion=h-1", *OF_A_RUN, "--memory=2g",
        "--workdir", "/work", "--name=n", "--label=minionize.param=3", "--rm", "img", "prog",
        *NASTY,
    ]  # fmt: skip


def test_docker_gets_the_same() -> None:
    of_podman = words(PODMAN, Invocation(["prog", *NASTY]))
    assert words(DOCKER, Invocation(["prog", *NASTY])) == ["/bin/docker", *of_podman[1:]]


def test_apptainer_has_user_and_environment_by_itself() -> None:
    assert words(APPTAINER, Invocation(["prog", *NASTY]), "nv", "B=/a:/b") == [
        "/bin/apptainer", "exec", "--bind=/work:/work", "--bind=/q/checkpoints:/q/checkpoints",
        "--nv", "-B", "/a:/b", "--pwd", "/work", "img", "prog", *NASTY,
    ]  # fmt: skip
    assert remove_words(APPTAINER, ["n"]) == sweep_words(APPTAINER, "h-1") == []


def test_who_the_caller_is_where_podman_or_docker_are_not_roots() -> None:
    podman = fixed_words(PODMAN._replace(keep_id=True), PLACE)
    assert "--userns=keep-id" in podman and "--user=7:8" in podman
    assert "--user=0:0" in fixed_words(DOCKER._replace(as_root=True), PLACE)


def test_without_root_podman_removes_nothing_that_was_not_asked_how_it_ended() -> None:
    podman = PODMAN._replace(keep_id=True)
    run, fixed = Invocation(["prog", *NASTY]), fixed_words(podman, PLACE)
    said = run_words(podman, fixed, "img", run, folder="/work", name="n", conmon="/s/0.conmon")
    assert said[:2] == ["/bin/sh", "-c"] and said[4:8] == ["n", "/s/0.conmon", *fixed[:2]]
    # The name is nowhere in the shell's own command as it is in podman's.
    assert not {"--rm", "--name=n"}.intersection(said[: said.index("img")])
    assert said[said.index("img") :] == ["img", "prog", *NASTY]
    # As a person sees it, without a name.
    assert run_words(podman, fixed, "img", run, folder="/work")[:2] == fixed[:2]


def test_what_only_some_runs_have() -> None:
    run = Invocation(["prog"], stdin=b"1\n", env={"OMP": "1"})
    said = words(PODMAN, run)
    assert "--interactive" in said and "--env=OMP" in said and "1" not in said
    assert "--interactive" not in words(PODMAN, Invocation(["prog"]))


@pytest.mark.parametrize("folder", ["/a:b", "/"])
def test_a_folder_that_cannot_be_mounted_is_named(folder: str) -> None:
    with pytest.raises(UsageError, match="another one"):
        fixed_words(DOCKER, Place(folder))
    with pytest.raises(UsageError, match="another one"):
        fixed_words(APPTAINER, Place("/a,b"))


def test_options_become_words_and_ours_are_refused() -> None:
    assert option_words(["memory=2g", "privileged", "v=/a:/b", "env=A=b c"]) == [
        "--memory=2g", "--privileged", "-v", "/a:/b", "--env=A=b c",
    ]  # fmt: skip
    check_options(["memory=2g"])
    for ours in ("rm", "name=x", "d", "tty", "restart=always"):
        with pytest.raises(UsageError, match="leave it out"):
            check_options([ours])


def test_options_as_they_are_given() -> None:
    told = ("memory=2g", "env=A=b c")
    assert parsing.container_options("memory=2g 'env=A=b c'") == told
    assert parsing.container_options(["--memory=2g", "env=A=b c"]) == told
    assert parsing.container_options({"memory": "2g", "privileged": True}) == (
        "memory=2g",
        "privileged",
    )
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parsing.container_options(["2g"])


def test_options_reach_minions_that_are_launched_elsewhere() -> None:
    assert launch_plan.option_words("container_options", ("memory=2g", "env=A=b c")) == [
        "--container-option", "memory=2g", "--container-option", "env=A=b c",
    ]  # fmt: skip


def test_podman_removes_at_once() -> None:
    assert remove_words(PODMAN, ["a", "b"]) == [
        "/bin/podman", "rm", "--force", "--time=0", "a", "b",
    ]  # fmt: skip
    assert remove_words(DOCKER, ["a"]) == ["/bin/docker", "rm", "--force", "a"]
    assert remove_words(DOCKER, []) == []
    assert sweep_words(PODMAN, "h-1")[-3:] == ["/bin/podman", "minionize.minion=h-1", "--time=0"]
    # The guard has room for 1 KiB.
    assert len("\0".join(sweep_words(PODMAN, "h" * 255))) < 1024


CATATONIT = "ERROR (catatonit:6): failed to exec pid1: No such file or directory"
OCI = 'runc create failed: unable to start: exec: "nope": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("runtime", "status", "stderr", "kind"),
    [
        (PODMAN, 125, "Error: localhost/nope: image not known", "runtime"),
        (PODMAN, 127, f"Error: runc: {OCI}: OCI runtime attempted", "missing"),
        (PODMAN, 126, 'Error: exec: "/etc": permission denied: OCI permission denied', "refused"),
        (PODMAN, 1, CATATONIT, "missing"),
        (
            DOCKER,
            125,
            "docker: Error response from daemon: oh\n\nRun 'docker run --help'",
            "runtime",
        ),
        (DOCKER, 127, f"docker: Error response from daemon: {OCI}: unknown.", "missing"),
        (DOCKER, 126, "[FATAL tini (7)] exec /etc failed: Permission denied", "refused"),
        (APPTAINER, 255, 'FATAL:   exec: "nope": executable file not found in $PATH', "missing"),
        (APPTAINER, 255, "FATAL:   could not open image x.sif", "runtime"),
        (PODMAN, 125, "no such license", None),
        (PODMAN, 127, "sh: 1: nope: not found", None),
        (PODMAN, 1, "Error: mine", None),
        (PODMAN, 3, CATATONIT, None),
    ],
)
def test_what_an_exit_status_means(
    runtime: Runtime, status: int, stderr: str, kind: str | None
) -> None:
    found = ailment(runtime, status, "before\n" + stderr)
    assert (found and found.kind) == kind
    assert found is None or isinstance(found, Ailment)


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Containers:
    """Of a podman that is never started."""
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    one = Containers("img", path=str(tmp_path), program="prog")
    one.joins("m", scratch=str(tmp_path / "scratch"), checkpoints=str(tmp_path / "q/checkpoints"))
    return one


def outcome(status: int, stderr: str = "", verdict: Verdict = Verdict.FAILED) -> Outcome:
    return Outcome(
        Lease("1", "1"), verdict, 0, 1.0, status, 0.1, 9000, reason=f"exit {status}", detail=stderr
    )


def test_whose_fault_it_is(containers: Containers) -> None:
    with pytest.raises(CommandNotFound, match="program prog is not there in image img"):
        containers.judge(outcome(127, f"Error: {OCI}"))
    with pytest.raises(CommandNotExecutable):
        containers.judge(outcome(126, "Error: exec: permission denied"))
    failed = containers.judge(outcome(127, "sh: 1: nope: not found"))
    assert (failed.verdict, failed.reason) == (Verdict.FAILED, "exit 127")
    # The client's use of CPU and memory is not the program's.
    assert failed.cpu_s is None and failed.peak_kib is None


def test_137_is_out_of_memory_if_the_kernel_counts_one_more(
    containers: Containers, tmp_path: Path
) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("oom 1\noom_kill 3\n")
    containers._oom_kills = host.OomKills(str(vmstat))
    assert containers.judge(outcome(137)).reason == "exit 137"
    vmstat.write_text("oom 1\noom_kill 4\n")
    timed_out = outcome(137)._replace(reason="timeout")
    assert containers.judge(timed_out).reason == "timeout"
    assert containers.judge(outcome(137)).reason == "out of memory"
    assert containers.judge(outcome(137, verdict=Verdict.LATER)).reason == "exit 137"
    vmstat.write_text("")
    assert containers.judge(outcome(137)).reason == "out of memory"


def test_a_runtime_that_never_worked_ends_the_minion_and_one_that_did_charges_nobody(
    containers: Containers,
) -> None:
    with pytest.raises(MinionizeError, match="no space left"):
        containers.judge(outcome(125, "Error: no space left on device"))
    containers.judge(outcome(3))
    later = containers.judge(outcome(125, "Error: no space left on device"))
    assert later.verdict is Verdict.UNABLE and later.reason.startswith("no process can be started")


def test_a_program_that_the_param_names_is_the_params_fault(containers: Containers) -> None:
    containers._program = None
    failed = containers.judge(outcome(127, f"Error: {OCI}"))
    assert (failed.verdict, failed.reason) == (
        Verdict.FAILED,
        "its program is not there in the image",
    )


def test_podmans_0_for_a_container_that_never_was_is_no_success(containers: Containers) -> None:
    containers.around(Invocation(["prog"]), Lease("1", "1"), 0)
    told = containers.judge(outcome(0, verdict=Verdict.DONE))
    assert (told.verdict, told.exit_status) == (Verdict.ABORTED, None)


def test_each_run_has_a_name_of_its_own_and_sees_its_folders(
    containers: Containers, tmp_path: Path
) -> None:
    first = containers.around(Invocation(["./prog"]), Lease("1", "1"), 0)
    assert containers.remover(0)[-1] == "minion-m-0.1"
    second = containers.around(Invocation(["./prog"], chdir="/tmp/else"), Lease("2", "2"), 0)
    assert containers.remover(0)[-1] == "minion-m-0.2"
    # The checkpoints are below the working folder already.
    assert [word for word in first.argv if "--volume" in word] == [
        f"--volume={tmp_path}:{tmp_path}"
    ]
    assert "--volume=/tmp/else:/tmp/else" in second.argv
    at = second.argv.index("--workdir")
    assert second.argv[at + 1] == "/tmp/else" and second.argv[-1] == f"{tmp_path}/./prog"


def test_a_runtime_is_found_or_the_remedy_said(tmp_path: Path) -> None:
    for name in ("docker", "apptainer"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert host.find_runtime(None, str(tmp_path)).kind == "docker"
    assert host.find_runtime("apptainer", str(tmp_path)).kind == "apptainer"
    assert host.find_runtime(str(tmp_path / "apptainer"), "").path == str(tmp_path / "apptainer")
    with pytest.raises(UsageError, match="none of them is on PATH"):
        host.find_runtime(None, str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="podman is not on PATH"):
        host.find_runtime("podman", str(tmp_path))
    with pytest.raises(UsageError, match="none of podman, docker, apptainer"):
        host.find_runtime("lxc", str(tmp_path))


def test_a_docker_that_is_podman_is_told_what_podman_needs(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    docker.chmod(0o755)
    found = host.find_runtime("docker", str(tmp_path))
    assert (found.kind, found.path) == ("podman", str(docker))


def test_the_file_of_an_image_is_found_from_the_folder_of_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apptainer").write_text("#!/bin/sh\n")
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for name, image in (("x.sif", f"{tmp_path}/x.sif"), ("docker://x", "docker://x")):
        run = Containers(name, path=str(tmp_path)).around(
            Invocation(["prog"], chdir="runs/1"), Lease("1", "1"), 0
        )
        assert run.argv[-2:] == [image, "prog"]


def test_only_what_surely_lost_its_minion_is_left_over() -> None:
    here = host.owner()
    user, node, boot, space, pid, start = here.split(":")
    assert not host.is_left(here, here)
    assert host.is_left(":".join([user, node, boot, space, pid, start + "1"]), here)
    assert host.is_left(":".join([user, node, "earlier", space, pid, start]), here)
    for other in (
        [user, "elsewhere", boot, space, pid, start + "1"],
        [user + "1", node, boot, space, pid, start + "1"],
        [user, node, boot, space + "1", pid, start + "1"],
        ["nonsense"],
    ):
        assert not host.is_left(":".join(other), here)


def test_a_callback_brings_its_image_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    class Train(ContainerCallback):
        image = "img"
        options = ("memory=2g",)

        def to_cmd(self, param: dict[str, str]) -> list[str]:
            return ["train", param["x"]]

    argv = Train().invocation(Lease("1", '{"x": "$(id)"}'), 0).argv
    assert argv[-3:] == ["img", "train", "$(id)"] and "--memory=2g" in argv
    assert Train("other").invocation(Lease("1", '{"x": "1"}'), 0).argv[-3] == "other"
