"""The proxy of the fault tests does what it says: a fault that isn't there proves nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from services.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that says everything twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(one: socket.socket) -> None:
            with one, contextlib.suppress(ConnectionResetError):
                while data := one.recv(100):
                    one.sendall(data * 2)

        def accept() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(one,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        with Proxy(*server.getsockname()) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def connected(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=180)
    client.sendall(b"a")
    assert client.recv(2, socket.MSG_WAITALL) == b"aa"
    return client


def test_it_passes_on(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy):
        one.sendall(b"b")
        assert one.recv(2, socket.MSG_WAITALL) == b"bb"
    assert proxy.connections == 2


def test_what_is_stalled_comes_when_it_is_mended(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.stall()
        one.settimeout(0.2)
        one.sendall(b"b")
        with pytest.raises(TimeoutError):
            one.recv(2)
        one.settimeout(180)
        proxy.mend()
        assert one.recv(2, socket.MSG_WAITALL) == b"bb"


def test_slow_answers_come_later(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.slow(0.2)
        began = time.monotonic()
        one.sendall(b"b")
        assert one.recv(2, socket.MSG_WAITALL) == b"bb"
        assert time.monotonic() - began >= 0.2


def test_an_answer_is_lost_with_its_connection_once(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.lose(1)
        one.sendall(b"b")
        assert one.recv(2, socket.MSG_WAITALL) == b"bb"
        assert proxy.loses
        one.sendall(b"c")
        with pytest.raises(ConnectionResetError):
            one.recv(2)
        assert not proxy.loses
    connected(proxy).close()


def test_a_cut_resets_and_refuses_until_it_is_mended(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            one.recv(2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=180)
        proxy.mend()
        connected(proxy).close()


def test_dropped_ones_may_come_again(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            one.recv(2)
    connected(proxy).close()


def test_it_answers_rubbish(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.answer(b"rubbish")
        with pytest.raises(ConnectionResetError):
            one.recv(2)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=180) as two:
        two.sendall(b"a")
        assert two.recv(7, socket.MSG_WAITALL) == b"rubbish"
