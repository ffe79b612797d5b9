"""Of the Redis client only what is used is imported, and others still find all of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("redis")


def _says(code: str, *, path: Path | None = None, alone: bool = True) -> list[str]:
    """The lines that `code` prints in a fresh Python. `path`: where it finds modules first."""
    before = f"from minionize import engines; engines.alone = {alone}\n"
    if path is not None:
        before += f"import sys; sys.path.insert(0, {str(path)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", before + code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_asyncio_clusters_and_commands_are_not_imported_by_the_engine() -> None:
    code = """
import sys
import minionize.engines.redis.minion
for name in ("connection", "client", "cluster", "asyncio", "sentinel"):
    print(name, "redis." + name in sys.modules)
"""
    assert _says(code) == [
        "connection True", "client False", "cluster False", "asyncio False", "sentinel False"
    ]  # fmt: skip


def test_whoever_wants_the_client_afterwards_has_all_of_it() -> None:
    code = """
from minionize.engines.redis import driver
import importlib.metadata
import redis
print(redis.__version__ == importlib.metadata.version("redis"))
print(redis.Connection is driver.connection.Connection)
print(redis.ResponseError is driver.exceptions.ResponseError)
print(redis.asyncio.Redis.__module__, redis.Redis.__module__, redis.RedisCluster.__name__)
from redis import *
from redis.sentinel import Sentinel
print(Sentinel is redis.Sentinel, type(redis).__name__)
"""
    assert _says(code) == [
        "True", "True", "True", "redis.asyncio.client redis.client RedisCluster", "True module"
    ]  # fmt: skip


def test_asyncio_is_there_for_whoever_wants_it() -> None:
    code = """
import sys
import minionize.engines.redis.minion
import asyncio
print(asyncio.queues.Queue.__name__)
print("asyncio.base_events" in sys.modules)
print(asyncio.run(asyncio.sleep(0, "slept")))
print(asyncio.StreamReader is asyncio.streams.StreamReader, type(asyncio).__name__)
print(asyncio.Queue is asyncio.queues.Queue)
"""
    queue, whole, *others = _says(code)
    assert [queue, *others] == ["Queue", "slept", "True module", "True"]
    if int(version("redis").partition(".")[0]) >= 8:  # those before use more of it
        assert whole == "False"


def test_what_is_only_imported_along_is_the_same_module_to_others() -> None:
    code = """
import sys
import minionize.engines.redis.minion
from redis import connection
from redis._parsers import base, socket
import ssl, inspect, traceback, random
print(isinstance(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).verify_flags, ssl.VerifyFlags))
print(getattr(connection, "VerifyFlags", ssl.VerifyFlags) is ssl.VerifyFlags)
print(ssl.SSLWantReadError in socket.NONBLOCKING_EXCEPTIONS)
async def coroutine(): pass
print(inspect.iscoroutinefunction(coroutine), inspect.iscoroutinefunction(print))
print(inspect.iscoroutinefunction.__module__, str(inspect.signature(lambda a, *, b=1: 0)))
try:
    1 / 0
except ZeroDivisionError:
    print(traceback.format_exc().splitlines()[-1])
print(0 <= random.random() < 1)
import asyncio
asyncio.run(asyncio.sleep(0))
print(base.StreamReader is asyncio.StreamReader)
print(*(type(sys.modules[name]).__name__ for name in ("ssl", "inspect", "traceback", "asyncio")))
"""
    assert _says(code) == [
        "True", "True", "True", "True False", "inspect (a, *, b=1)",
        "ZeroDivisionError: division by zero", "True", "True", "module module module module",
    ]  # fmt: skip


def test_a_minion_runs_nothing_of_what_is_put_off() -> None:
    code = """
import minionize.engines.redis.minion
from minionize.engines.redis.put_off import is_put_off
# Where OpenTelemetry is installed, the client loads it, and that some of the others.
print(*(name for name in ("asyncio", "redis", "ssl") if is_put_off(name)))
"""
    if int(version("redis").partition(".")[0]) >= 8:  # those before use more of it
        assert _says(code) == ["asyncio redis ssl"]


def test_what_was_given_for_now_is_replaced_by_the_real_name(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("class Mentioned: pass\nused = 2\n")
    (tmp_path / "client.py").write_text("from large import Mentioned\nimport large\n")
    code = """
from minionize.engines.redis.put_off import for_now, is_put_off, put_off
put_off("large")
held = [type("Mentioned", (), {})]
with for_now({"large": {"Mentioned": held[0]}}):
    import client
print(client.Mentioned is held[0], is_put_off("large"))
print(client.large.used, is_put_off("large"))
print(client.Mentioned is held[0], client.Mentioned is client.large.Mentioned)
"""
    assert _says(code, path=tmp_path) == ["True True", "2 False", "False True"]


def test_what_is_given_for_now_is_for_one_thread(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("class Mentioned: pass\n")
    code = """
from concurrent.futures import ThreadPoolExecutor
from minionize.engines.redis.put_off import for_now, put_off
put_off("large")
import large
with for_now({"large": {"Mentioned": 1}}), ThreadPoolExecutor(1) as threads:
    print(large.Mentioned)
    print(threads.submit(lambda: large.Mentioned).result())
    print(large.Mentioned)
"""
    assert _says(code, path=tmp_path) == ["1", *["<class 'large.Mentioned'>"] * 2]


def test_where_others_code_runs_nothing_is_put_off() -> None:
    code = """
import sys
import minionize.engines.redis.minion
from minionize.engines.redis.put_off import is_put_off
print(*(name for name in sys.modules if is_put_off(name)))
import redis.asyncio, redis.cluster
import cloudpickle, textwrap, traceback, ssl
def function(): return textwrap, traceback, ssl
print(len(cloudpickle.dumps(function)) > 0)
"""
    assert _says(code, alone=False) == ["", "True"]


def test_a_python_without_openssl_has_the_client_too() -> None:
    code = """
import sys
sys.modules["_ssl"] = None
import minionize.engines.redis.minion
from redis.connection import Connection
print(Connection.__name__)
try:
    import ssl
except ImportError:
    print("no ssl")
"""
    assert _says(code) == ["Connection", "no ssl"]


def test_a_client_that_was_imported_before_stays_as_it_is() -> None:
    code = """
import redis
before = redis
import minionize.engines.redis.minion
import redis
print(redis is before, type(redis).__name__)
"""
    assert _says(code) == ["True module"]


def test_the_code_of_what_was_put_off_runs_once_for_the_first_who_ask(tmp_path: Path) -> None:
    package = tmp_path / "heavy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import time\nprint('runs')\ntime.sleep(0.2)\nfrom heavy.part import small\nlarge = 2\n"
    )
    (package / "part.py").write_text("small = 1\n")
    code = """
from concurrent.futures import ThreadPoolExecutor
from minionize.engines.redis.put_off import put_off
put_off("heavy")
import heavy.part
print(heavy.part.small)
with ThreadPoolExecutor(4) as threads:
    print(list(threads.map(lambda _: heavy.large, range(4))))
print(hasattr(heavy, "missing"), heavy.small)
"""
    assert _says(code, path=tmp_path) == ["1", "runs", "[2, 2, 2, 2]", "False 1"]


def test_code_that_fails_says_so_to_each_who_asks(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('out of order')\n")
    code = """
from minionize.engines.redis.put_off import put_off
put_off("broken")
import broken
for _ in range(2):
    try:
        broken.name
    except RuntimeError as error:
        print(error)
"""
    assert _says(code, path=tmp_path) == ["out of order"] * 2


def test_a_client_whose_parts_need_the_whole_is_imported_whole(tmp_path: Path) -> None:
    package = tmp_path / "redis"
    package.mkdir()
    (package / "__init__.py").write_text("first = 1\nfrom redis import backoff\n")
    (package / "backoff.py").write_text("import redis\n")
    (package / "connection.py").write_text("import redis.exceptions\n")
    (package / "exceptions.py").write_text("import redis\n")
    (package / "retry.py").write_text(
        "import sys, redis\n"
        "if type(redis).__name__ != 'module': raise ImportError('the whole first')\n"
    )
    code = """
from minionize.engines.redis import driver
import redis
print(type(redis).__name__, redis.first, driver.retry.__name__)
"""
    assert _says(code, path=tmp_path) == ["module 1 redis.retry"]
