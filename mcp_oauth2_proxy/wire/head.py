"""A request's head, judged before anything acts on it. Pure.

llhttp, which is strict, has refused what is no HTTP/1 at all: bad tokens, bare CR or LF, folded
lines, conflicting or repeated lengths. What is judged here is what it leaves to its caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field, frozen

from mcp_oauth2_proxy.wire.limits import MAX_TARGET_BYTES

Pairs = list[tuple[bytes, bytes]]

#: Headers that decide where a request ends, whom it is for or who sends it: never more than one of each.
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect"})


@frozen
class Rejection:
    """Why a request is answered by the wire itself, and its connection closed."""

    status: int
    description: str


@frozen
class Head:
    """What the channel needs to know of an accepted head. ``length`` is ``None`` for a chunked body.

    ``first`` has the first value of each header by its name in lower case.
    """

    path_and_query: bytes
    length: int | None
    expects_continue: bool
    first: Mapping[bytes, bytes] = field(factory=dict, eq=False)


def judge_head(method: bytes, target: bytes, version: str, pairs: Pairs) -> Head | Rejection:
    """Return the accepted head, or the answer to an unacceptable one (RFC 9110, RFC 9112)."""
    if version not in ("1.0", "1.1"):
        return Rejection(400 if version < "1.0" else 505, "this server speaks HTTP/1.1")
    if len(target) > MAX_TARGET_BYTES:
        return Rejection(414, f"the request target is longer than {MAX_TARGET_BYTES} bytes")
    if method in (b"CONNECT", b"TRACE"):
        return Rejection(400, f"{method.decode('ascii')} is not offered here")
    first: dict[bytes, bytes] = {}
    for name, value in pairs:
        lowered = name.lower()
        if lowered not in first:
            first[lowered] = value
        elif lowered in _SINGLE:
            return Rejection(400, f"more than one {name.decode('latin-1')} header")
    host = first.get(b"host")
    path = _origin_form(method, target, host)
    if isinstance(path, Rejection):
        return path
    if version == "1.1" and not host:
        return Rejection(400, "the Host header is missing")
    expectation = first.get(b"expect", b"").lower()
    if expectation not in (b"", b"100-continue"):
        return Rejection(417, "only 100-continue can be expected")
    length = _body_length(first, version)
    if isinstance(length, Rejection):
        return length
    continues = expectation == b"100-continue" and version == "1.1" and length != 0
    return Head(path, length, continues, first)


def _body_length(first: Mapping[bytes, bytes], version: str) -> int | Rejection | None:
    encoding = first.get(b"transfer-encoding")
    if encoding is not None:
        if version == "1.0" or b"content-length" in first:
            return Rejection(400, "the length of the body is ambiguous")
        if encoding.strip().lower() != b"chunked":
            return Rejection(400, "only the chunked transfer coding is understood")
        return None
    declared = first.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 18:
        return Rejection(400, "the Content-Length header is malformed")
    return int(declared)


def _origin_form(method: bytes, target: bytes, host: bytes | None) -> bytes | Rejection:
    """Return path and query of the target; an absolute one must name the Host it is sent to."""
    if target.startswith(b"/"):
        return target if b"#" not in target else Rejection(400, "the request target has a fragment")
    if target == b"*" and method == b"OPTIONS":
        return target
    try:
        split = urlsplit(target.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return Rejection(400, "the request target is malformed")
    if split.scheme not in ("http", "https") or not split.netloc or "@" in split.netloc or split.fragment:
        return Rejection(400, "the request target is malformed")
    if host is None or split.netloc.lower().encode("ascii") != host.lower():
        return Rejection(400, "the request target and the Host header disagree")
    query = f"?{split.query}" if split.query else ""
    return f"{split.path or '/'}{query}".encode("ascii")
