"""What is submitted to a server of another version: those before 1.29 can't be started here, so
what one says of itself is all that there is of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from minionize.launch import Launch
from minionize.launch.kubernetes import submit


class Server:
    """An address that tells its version, and keeps the Jobs that it is sent."""

    def __init__(self, folder: Path) -> None:
        self.version = ("", "")
        self.jobs: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/version/"
                major, minor = outer.version
                names = ("gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion",
                         "compiler", "platform")  # fmt: skip
                self._answer({"major": major, "minor": minor, **dict.fromkeys(names, "x")})

            def do_POST(self) -> None:
                assert self.path == "/apis/batch/v1/namespaces/default/jobs"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.jobs.append(body)
                self._answer({**body, "metadata": {"name": "minions-x"}})

            def _answer(self, value: dict[str, Any]) -> None:
                text = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.config = folder / "config"
        self.config.write_text(
            json.dumps(
                {
                    "current-context": "it",
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "clusters": [
                        {
                            "name": "it",
                            "cluster": {"server": f"http://127.0.0.1:{self.http.server_port}"},
                        }
                    ],
                    "users": [{"name": "it", "user": {"token": "t"}}],
                }
            )
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.mark.parametrize(
    ("version", "told", "each"),
    [
        (("1", "28+"), (), False),
        (("1", "26"), (), False),
        (("1", "29"), (), True),
        (("1", "36"), (), True),
        (("0", "0"), (), True),
        (("1", "36"), ("1.28",), False),
        (("1", "28"), ("1.29",), True),
    ],
)
def test_a_server_gets_the_limits_that_it_knows(
    server: Server, version: tuple[str, str], told: tuple[str, ...], each: bool
) -> None:
    server.version = version
    options: dict[str, tuple[str, ...]] = {"image": ("a",), "kubeconfig": (str(server.config),)}
    if told:
        options["server"] = told
    launch = Launch(minions=3, queue="redis://redis/0", command=("true",), options=options)
    assert submit(launch).job_ids == ("minions-x",)
    (job,) = server.jobs
    limits = {name: job["spec"][name] for name in job["spec"] if name.startswith("backoffLimit")}
    assert limits == ({"backoffLimitPerIndex": 10} if each else {"backoffLimit": 30})
    # What 1.26 has already.
    assert job["spec"]["podFailurePolicy"]["rules"]
