"""What supervisor and worker say to each other: JSON documents, one a line, over a socket pair. Pure.

A worker is a fresh interpreter, started by ``exec``: a fork of a process that has an event loop and threads
would inherit both in a state that nobody has thought of. What it needs to know comes over the socket pair,
and never by its arguments, which every user of the machine can read.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import asdict, frozen

from mcp_oauth2_proxy.config.load import Said

#: Bytes of a line at most: the configuration file is at most a mebibyte, JSON writes a byte as six at worst.
MAX_LINE = 8 * 1024 * 1024

LISTEN = b'{"order": "listen"}'
DRAIN = b'{"order": "drain"}'


@frozen(repr=False)
class Start:
    """What a worker is told first: who it is, and the configuration as the supervisor has read it.

    It is the text and not the file, so that a worker that replaces a dead one runs what all the others run,
    whatever has become of the file since. ``sockets`` is how many listening sockets it was handed, and
    ``listens`` whether it takes connections at once, or when it is ready.
    """

    number: int
    workers: int
    said: Said
    private_store: str | None
    sockets: int
    listens: bool

    def encode(self) -> bytes:
        """Return the line, without its end."""
        document = {name: getattr(self, name) for name in _PLAIN}
        text = self.said.text
        document["name"] = self.said.name
        document["text"] = None if text is None else text.decode("utf-8")
        document["overrides"] = dict(self.said.overrides)
        return json.dumps(document).encode("ascii")

    @classmethod
    def decode(cls, line: bytes) -> Start:
        """Return what a line says."""
        document = json.loads(line)
        text = document["text"]
        said = Said(document["name"], None if text is None else text.encode("utf-8"), document["overrides"])
        return cls(said=said, **{name: document[name] for name in _PLAIN})


_PLAIN = ("number", "workers", "private_store", "sockets", "listens")


@frozen
class Report:
    """How a worker does: whether it takes connections, and what keeps it from being ready."""

    listens: bool
    reasons: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the line, without its end."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, line: bytes) -> Report:
        """Return what a line says."""
        document: dict[str, Any] = json.loads(line)
        return cls(document["listens"], tuple(document["reasons"]))


def encode_others(reasons: list[str]) -> bytes:
    """Return the line that tells a worker what keeps the others from being ready."""
    return json.dumps({"order": "others", "reasons": reasons}).encode("ascii")
