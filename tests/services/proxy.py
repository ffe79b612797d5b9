"""A TCP proxy on loopback that a test can make stall, break, go slow or talk rubbish.

Between a client and any server:

    with Proxy("127.0.0.1", server_port) as proxy:
        ... connect to proxy.port ...
        proxy.stall()      # connections stay open and nothing gets through
        proxy.cut()        # connections are reset, new ones refused
        proxy.slow(0.2)    # every answer comes so much later
        proxy.lose(3)      # the fourth answer from now gets lost, with its connection
        proxy.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")   # whatever is asked
        proxy.mend()       # all is well again; what was stalled goes on
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset, as a dead host's replacement or a firewall would."""


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to a server. All methods are thread-safe."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._changed = threading.Condition()
        self._stalled = False
        self._delay_s = 0.0
        self._until_lost: int | None = None
        self._rubbish: bytes | None = None
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.connections = 0
        """How many were ever accepted."""
        self._listen()

    # ---- what a test does

    def stall(self) -> None:
        """Nothing gets through in either direction; connections are accepted and stay open."""
        with self._changed:
            self._stalled = True

    def slow(self, seconds: float) -> None:
        """Each answer of the server comes `seconds` later."""
        with self._changed:
            self._delay_s = seconds

    def lose(self, after: int = 0) -> None:
        """`after` more answers get through. The next one does not, though the server did what it
        was asked: its connection is reset. Once; `loses` tells whether that is still to come."""
        with self._changed:
            self._until_lost = after

    @property
    def loses(self) -> bool:
        """Whether an answer is going to be lost."""
        return self._until_lost is not None

    def answer(self, rubbish: bytes) -> None:
        """Whatever a client says is answered with this; open connections are reset first."""
        with self._changed:
            self._rubbish = rubbish
        self._reset_all()

    def drop(self) -> None:
        """Reset all connections; new ones are served."""
        self._reset_all()

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # A thread sits in accept(): closing alone would leave it there, and the port open.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._reset_all()

    def mend(self) -> None:
        """Pass everything on again, at once; open connections go on where they were."""
        with self._changed:
            self._stalled = False
            self._delay_s = 0.0
            self._until_lost = None
            self._rubbish = None
            self._changed.notify_all()
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        """End it all. May be repeated."""
        self.cut()
        with self._changed:
            self._stalled = False
            self._changed.notify_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- how it works

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._keep(client)
        if self._rubbish is not None:
            self._talk_rubbish(client)
            return
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            self._reset(client)
            return
        server.settimeout(None)
        self._keep(server)
        try:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # reset by us while we connected
            self._reset(client)
            self._reset(server)
            return
        back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
        back.start()
        self._pump(client, server, False)

    def _is_lost(self) -> bool:
        if self._until_lost is None:
            return False
        self._until_lost = self._until_lost - 1 if self._until_lost else None
        return self._until_lost is None

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        lost = False
        try:
            while data := source.recv(1 << 16):
                with self._changed:
                    while self._stalled:
                        self._changed.wait()
                    delay_s = self._delay_s if answers else 0.0
                    lost = answers and self._is_lost()
                if delay_s:
                    time.sleep(delay_s)
                if lost:
                    break
                sink.sendall(data)
            with self._changed:
                ours = source not in self._open
            if ours or lost:  # we reset it: an orderly end of the other side would hide that
                self._reset(sink)
                self._reset(source)
                return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset(source)
            self._reset(sink)
            return
        if answers:  # the server's side is over: so is the connection
            self._reset(source)
            self._reset(sink)

    def _talk_rubbish(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(1 << 16):
                rubbish = self._rubbish
                if rubbish is None:
                    break
                client.sendall(rubbish)
        self._reset(client)

    def _keep(self, end: socket.socket) -> None:
        with self._changed:
            self._open.add(end)

    def _reset_all(self) -> None:
        with self._changed:
            ends = list(self._open)
        for end in ends:
            self._reset(end)

    def _reset(self, end: socket.socket) -> None:
        with self._changed:
            if end not in self._open:
                return
            self._open.discard(end)
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            # Wakes the thread that sits in recv(), and says nothing to the peer: it gets a reset.
            end.shutdown(socket.SHUT_RD)
        end.close()
