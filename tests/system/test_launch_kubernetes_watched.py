"""Following a launch through everything that happens to connections, and who may do so: on a
real control plane, behind a proxy that breaks things."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from services.kubernetes.calls import Thing
from services.kubernetes.control_plane import NOBODY
from services.kubernetes.room import Room, running
from services.processes import until
from services.proxy import Proxy

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import LogLine, Submitted
from minionize.launch.kubernetes import cancel, cluster, logs, states
from minionize.launch.kubernetes.cluster import Gone, Place, connected
from minionize.launch.kubernetes.following import watched

RBAC = Path(__file__).parents[2] / "examples" / "kubernetes" / "rbac.yaml"
# Writes three lines as it is told to, by files in the volume.
TALK = """\
for n in 1 2 3; do
    while [ ! -e "/data/go-$n" ]; do sleep 0.05; done
    echo "$1 says $n"
done
"""


@pytest.fixture
def proxy(room: Room) -> Iterator[Proxy]:
    """Between a person and the API server."""
    with Proxy("127.0.0.1", room.cluster.port) as made:
        yield made


def _through(proxy: Proxy, room: Room, folder: Path) -> str:
    """A kubeconfig that goes through it."""
    config = json.loads(Path(room.cluster.kubeconfig()).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / "through.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


class _Follower:
    """Follows a launch in a thread of its own."""

    def __init__(self, submitted: Submitted) -> None:
        self.lines: list[LogLine] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, args=(submitted,), daemon=True)
        self._thread.start()

    def _follow(self, submitted: Submitted) -> None:
        try:
            for line in logs(submitted, follow=True):
                self.lines.append(line)
        except BaseException as error:
            self.error = error

    def texts(self) -> list[str]:
        return sorted(line.text for line in self.lines if " says " in line.text)

    def end(self) -> list[str]:
        self._thread.join(60)
        assert not self._thread.is_alive(), self.lines
        assert self.error is None, self.error
        return self.texts()


@pytest.mark.parametrize("fault", ["none", "drop", "stall"])
def test_all_lines_come_once_and_as_they_are_written(
    room: Room, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(cluster, "QUIET_S", 1.0)
    monkeypatch.setattr(cluster, "TIMEOUT_S", 2.0)
    room.feed(["a", "b"])
    submitted = room.launch("sh", "-c", TALK, "sh", "{}", minions=2,
                            kubeconfig=_through(proxy, room, tmp_path))  # fmt: skip
    follower = _Follower(submitted)
    (room.folder / "go-1").touch()
    until(lambda: follower.texts() == ["a says 1", "b says 1"], lambda: follower.lines)
    if fault == "drop":
        proxy.drop()
    elif fault == "stall":
        proxy.stall()
    (room.folder / "go-2").touch()
    if fault == "stall":
        until(lambda: proxy.connections > 6, "no new connection was tried")
        proxy.mend()
    until(lambda: len(follower.texts()) == 4, lambda: follower.lines)
    (room.folder / "go-3").touch()
    assert follower.end() == [f"{name} says {n}" for name in "ab" for n in (1, 2, 3)]


def test_pods_that_come_later_are_followed_too(room: Room) -> None:
    room.feed(["a"])
    submitted = room.launch("sh", "-c", TALK, "sh", "{}")
    follower = _Follower(submitted)
    (room.folder / "go-1").touch()
    until(lambda: follower.texts() == ["a says 1"], lambda: follower.lines)
    (first,) = running(room.pods())
    room.api.call("DELETE", f"{room.path}/pods/{first['metadata']['name']}")
    until(lambda: len(follower.texts()) == 2, lambda: follower.lines)  # its replacement
    for n in (2, 3):
        (room.folder / f"go-{n}").touch()
    assert follower.end() == ["a says 1", "a says 1", "a says 2", "a says 3"]
    assert len({line.job for line in follower.lines}) == 2


def test_a_watch_that_is_too_old_lists_anew(room: Room) -> None:
    room.feed(["a"])
    submitted = room.launch("true")
    (name,) = submitted.job_ids
    stop = threading.Event()
    with connected(Place.of(submitted.details)) as found:
        _, old = found.listed([name])
        room.wait(submitted)
        _, new = found.listed([name])
        room.cluster.forget(new)
        with pytest.raises(Gone):
            next(found.changes(name, old))
        seen = next(watched(found, name, stop, version=old))
    assert (seen.job, seen.phase) == (name, "Succeeded")


def test_gone_before_the_first_event_lists_anew(room: Room, proxy: Proxy, tmp_path: Path) -> None:
    gone = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    room.feed(["a"])
    room.wait(submitted := room.launch("true"))
    through = Place(kubeconfig=_plain(proxy, tmp_path), namespace=room.name)
    proxy.answer(gone)
    with connected(through) as found, pytest.raises(Gone):
        list(found.changes(submitted.job_ids[0], "5"))


def _plain(proxy: Proxy, folder: Path) -> str:
    """A kubeconfig without TLS, for a proxy that answers by itself."""
    path = folder / "plain.kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{proxy.port}"}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    }))  # fmt: skip
    return str(path)


def test_a_server_that_does_not_answer_is_named(room: Room, proxy: Proxy, tmp_path: Path) -> None:
    kubeconfig = _through(proxy, room, tmp_path)
    proxy.cut()
    with pytest.raises(LaunchRefused, match=f"127.0.0.1:{proxy.port} can't be reached"):
        room.launch("true", kubeconfig=kubeconfig)
    with pytest.raises(UsageError, match="-O kubeconfig="):
        room.launch("true", kubeconfig=str(tmp_path / "none"))


# ---- who may


def _role() -> list[Thing]:
    """The rules of the example."""
    rules: list[Thing] = next(yaml.safe_load_all(RBAC.read_text()))["rules"]
    return rules


def _all_of_it(room: Room, kubeconfig: str) -> None:
    """What `minion launch`, `jobs`, `logs -f` and `cancel` do."""
    submitted = room.launch("echo", "says", kubeconfig=kubeconfig)
    assert [job.state.value for job in states([submitted])]
    assert [line.text for line in logs(submitted, follow=True) if "says" in line.text]
    assert list(logs(submitted, follow=False))
    cancel(submitted)


def test_the_rights_of_the_example_suffice(room: Room) -> None:
    room.feed(["a"])
    room.apply(*yaml.safe_load_all(RBAC.read_text()))
    _all_of_it(room, _token(room))
    # That of the quota is told as well.
    room.api.call("POST", f"{room.path}/resourcequotas", {
        "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})  # fmt: skip
    submitted = room.launch("true", kubeconfig=_token(room))
    until(lambda: "exceeded quota" in states([submitted])[0].detail, "no word of the quota")
    cancel(submitted)


def _less() -> Iterator[tuple[str, str]]:
    for rule in _role():
        for verb in rule["verbs"]:
            if rule["resources"] != ["events"]:
                yield rule["resources"][0], verb


@pytest.mark.parametrize("resource, verb", list(_less()))
def test_none_of_them_is_too_much(room: Room, resource: str, verb: str) -> None:
    room.feed(["a"])
    role, account, binding = yaml.safe_load_all(RBAC.read_text())
    for rule in role["rules"]:
        if rule["resources"] == [resource]:
            rule["verbs"].remove(verb)
    room.apply(
        {**role, "rules": [rule for rule in role["rules"] if rule["verbs"]]}, account, binding
    )
    with pytest.raises(LaunchRefused, match=f'cannot {verb} resource "{resource}"'):
        _all_of_it(room, _token(room))


def test_without_a_role_nothing_is_allowed(room: Room) -> None:
    with pytest.raises(LaunchRefused, match='User "nobody" cannot create resource "jobs"'):
        room.launch("true", kubeconfig=room.cluster.kubeconfig(NOBODY))


def _token(room: Room) -> str:
    """A kubeconfig of the example's account, once its role has taken effect."""
    path = f"{room.path}/serviceaccounts/minion-launcher/token"
    answer = room.api.call("POST", path, {"spec": {"expirationSeconds": 3600}})
    token: str = answer["status"]["token"]
    api = room.cluster.api(token)
    _until_allowed(lambda: api.call("GET", f"{room.path}/pods"),
                   lambda: api.call("GET", f"{room.jobs_path}/none"))  # fmt: skip
    return room.cluster.kubeconfig(token)


def _until_allowed(*calls: Callable[[], object]) -> None:
    """Until one of them is not forbidden: a new role takes a moment."""
    from services.kubernetes.calls import Refused

    def one() -> bool:
        for call in calls:
            try:
                call()
            except Refused as refused:
                if refused.status == 403:
                    continue
            return True
        return False

    until(one, "the role has no effect")
