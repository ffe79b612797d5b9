"""Containers of a user without any right: podman, `minionize --image`, and the image of docker/."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from services import rootless, worker_image
from services.account import Account
from services.container_bench import Bench
from services.container_cases import (
    done,
    killed,
    left,
    saw,
    timed_out,
    told_and_not_looked_at,
    told_by_another,
    told_by_the_minion,
)
from services.podman import BASE, Podman


def test_podman_without_root(pod: Podman, needs_server: Callable[[str], NoReturn]) -> None:
    if lacks := rootless.lacking():
        needs_server(lacks)
    image = worker_image.build(pod)
    with rootless.rootless(pod, BASE, image) as (user, env):
        ends = (told_by_the_minion, told_and_not_looked_at, told_by_another, done, left)
        for case in (saw, timed_out, killed, *ends):
            case(_bench(user, env, case.__name__))
        files(_bench(user, env, "files"))
        worker(_bench(user, env, "worker"), image)


def _bench(user: Account, env: dict[str, str], name: str) -> Bench:
    folder = user.home / name
    folder.mkdir()
    return Bench(folder, env, "podman", user)


def files(bench: Bench) -> None:
    """What a run writes is the caller's, and root in the container is nobody's business."""
    bench.put(1)
    script = 'mkdir -p "$MINION_CHECKPOINT_DIR" && touch new && id -u'
    assert bench.run("--chdir", "runs", "sh", "-c", script).split() == [str(bench.uid)]
    assert (bench.folder / "runs/new").stat().st_uid == bench.uid


def worker(bench: Bench, image: str) -> None:
    """The image of docker/, as the page on containers says."""
    bench.put("a", "b")
    ids = f"{bench.uid}:{bench.folder.stat().st_gid}"
    ran = bench.ask(
        "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all",
        "--security-opt=no-new-privileges", "--userns=keep-id", f"--user={ids}",
        f"--volume={bench.folder}:/work", "--env=MINION_QUEUE=file:/work/q", image,
        "sh", "-c", 'echo "$1" >>out', "x", "{}",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert sorted((bench.folder / "out").read_text().split()) == ["a", "b"]
    assert (bench.folder / "out").stat().st_uid == bench.uid
