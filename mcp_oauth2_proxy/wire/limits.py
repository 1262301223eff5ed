"""The bounds of one connection: those of a client's are settings."""

from __future__ import annotations

from typing import Self

from attrs import fields, frozen

from mcp_oauth2_proxy.config.model import Server

#: Longest request target in bytes: RFC 9110 section 4.1 asks for 8000 at least; a sealed client id,
#: a state and a redirect URI together stay well below this.
MAX_TARGET_BYTES = 32 * 1024
#: Bounds of an answer's head, interim answers included; an upstream that needs more is broken.
MAX_ANSWER_HEAD_BYTES = 64 * 1024
MAX_ANSWER_HEAD_LINES = 200
#: Longest head in bytes that is remembered in case it is repeated: with a token it has one or two thousand,
#: and what is remembered, four times as much with what was made of it, stays while a connection is idle.
MAX_REMEMBERED_HEAD = 8 * 1024
#: Pieces of a body that are held before they are made one: those of two bytes take twenty times as much.
MAX_PIECES = 256
#: Seconds that closing a connection to the upstream may take, before it is cut.
LINGER = 4.0


@frozen
class Limits:
    """Sizes are bytes, lines or connections, times seconds; 0 means no limit of that kind."""

    max_header_bytes: int = 64 * 1024
    max_header_lines: int = 200
    read_timeout: float = 30.0
    write_timeout: float = 0.0
    idle_timeout: float = 120.0
    max_connections: int = 10_000
    max_connections_per_address: int = 5_000

    @classmethod
    def from_config(cls, server: Server) -> Self:
        """Return the bounds that the settings ``server.*`` of the same names say."""
        return cls(**{field.name: getattr(server, field.name) for field in fields(cls)})
