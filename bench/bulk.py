"""A quarter of a gigabyte through a peer, down or up, with each byte checked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench import procfs
from bench.errors import WrongAnswer
from bench.traffic import BULK_BLOCK, BULK_BLOCKS, BULK_BYTES, BULK_PATH, BulkCheck

_TIMEOUT = 60.0
_MOST_HEAD = 65_536
_READ = 1 << 18
#: Seconds between two looks at the peer's memory.
_LOOK = 0.02


def _head(method: bytes, token: str, length: bytes = b"") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer %s\r\n%s\r\n" % (
        method,
        BULK_PATH,
        token.encode(),
        length,
    )


def _status(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the answer's head, and what came of its body with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(_READ)
        received += data
        if not data or (len(received) > _MOST_HEAD and b"\r\n\r\n" not in received):
            raise WrongAnswer("no answer to a bulk transfer")
    head, _, body = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
        raise WrongAnswer(f"a bulk transfer was answered {head[:100].decode('latin-1')}")
    return head, body


def download(port: int, token: str) -> None:
    """Fetch the bulk body.

    :raises WrongAnswer: a byte of it is another one, is missing, or is too many.
    """
    check, buffer = BulkCheck(), bytearray(_READ)
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        connection.sendall(_head(b"GET", token))
        check.feed(_status(connection)[1])
        while check.received < BULK_BYTES and (count := connection.recv_into(buffer)):
            check.feed(memoryview(buffer)[:count])
    if not check.whole():
        raise WrongAnswer(f"{check.received} bytes came of {BULK_BYTES}, right: {check.right}")


def upload(port: int, token: str) -> None:
    """Send the bulk body; the upstream says whether it is the right one.

    :raises WrongAnswer: it is not.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        connection.sendall(_head(b"POST", token, b"Content-Length: %d\r\n" % BULK_BYTES))
        for _ in range(BULK_BLOCKS):
            connection.sendall(BULK_BLOCK)
        _status(connection)


class Memory:
    """The most that a process and its children held while the block ran, and before; bytes of RSS."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.most = procfs.memory_bytes(pid)

    def look(self) -> None:
        """Note what it holds now."""
        self.most = max(self.most, procfs.memory_bytes(self._pid))


@contextmanager
def watched_memory(pid: int) -> Iterator[Memory]:
    """Look at the memory of ``pid`` all along."""
    memory, ended = Memory(pid), threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK):
            memory.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()
