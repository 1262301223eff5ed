"""The heads of requests and answers, judged before anything acts on them. Pure.

llhttp, which is strict, has refused what is no HTTP/1 at all: bad tokens, bare CR or LF, folded
lines, conflicting or repeated lengths. What is judged here is what it leaves to its caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field, frozen

from mcp_oauth2_proxy.wire.limits import MAX_TARGET_BYTES

Pairs = list[tuple[bytes, bytes]]

#: Headers that decide where a request ends, whom it is for or who sends it: never more than one of each.
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect"})
#: A host and a port (RFC 9110 section 7.2), in the characters that names and addresses really have.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
#: What no reason phrase has in it (RFC 9112 section 4).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: What ``Keep-Alive`` says of time (RFC 2068 section 19.7.1, with the parameter that servers add).
_KEPT = re.compile(rb"(?:^|[,; \t])timeout[ \t]*=[ \t]*([0-9]{1,9})(?=$|[,; \t])", re.IGNORECASE)
#: Digits that a length may have: more is nobody's body, and would overflow somebody's counter.
MAX_LENGTH_DIGITS = 18


class Ambiguous(ValueError):
    """An answer's head leaves open where its body ends; the text says why."""


@frozen
class Rejection:
    """Why a request is answered by the wire itself, and its connection closed."""

    status: int
    description: str


TARGET_TOO_LONG = Rejection(414, f"the request target is longer than {MAX_TARGET_BYTES} bytes")


@frozen
class Head:
    """What the channel needs to know of an accepted head. ``length`` is ``None`` for a chunked body.

    ``first`` has the first value of each header by its name in lower case.
    """

    path_and_query: bytes
    length: int | None
    expects_continue: bool
    first: Mapping[bytes, bytes] = field(factory=dict, eq=False)


def trimmed(name: bytes, value: bytes) -> bytes:
    """Return ``value`` without the white space behind it, which llhttp leaves there (RFC 9112 section 5.1).

    A tab behind a transfer coding stays: llhttp takes it for a part of the coding's name, and what it takes
    for another coding than chunked must not be chunked to us.
    """
    if not value.endswith((b" ", b"\t")):
        return value
    text = value.rstrip(b" \t")
    return value if b"\t" in value[len(text) :] and name.lower() == b"transfer-encoding" else text


def judge_head(method: bytes, target: bytes, version: str, pairs: Pairs) -> Head | Rejection:
    """Return the accepted head, or the answer to an unacceptable one (RFC 9110, RFC 9112)."""
    if version not in ("1.0", "1.1"):
        return Rejection(400 if version < "1.0" else 505, "this server speaks HTTP/1.1")
    if len(target) > MAX_TARGET_BYTES:
        return TARGET_TOO_LONG
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
    if host is not None and not _HOST.fullmatch(host):
        return Rejection(400, "the Host header is malformed")
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
        if encoding.lower() != b"chunked":
            return Rejection(400, "only the chunked transfer coding is understood")
        return None
    declared = first.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > MAX_LENGTH_DIGITS:
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
    if split.scheme not in ("http", "https") or not split.netloc or "@" in split.netloc or b"#" in target:
        return Rejection(400, "the request target is malformed")
    if host is None or split.netloc.lower().encode("ascii") != host.lower():
        return Rejection(400, "the request target and the Host header disagree")
    rest = target[len(split.scheme) + len("://") + len(split.netloc) :]
    return rest if rest.startswith(b"/") else b"/" + rest


def answer_framing(method: bytes, code: int, version: str, pairs: Pairs) -> tuple[int | None, bool]:
    """Return how long an answer's body is, and whether another answer may follow it on its connection.

    The length is ``None`` where only its end tells (RFC 9112 section 6.3). An answer that has no body but
    announces one (to HEAD, 204, 304) is followed by none: an upstream that sent the body after all would
    answer the next request with it.

    :raises Ambiguous: two readings are possible, or a transfer coding that is not understood here.
    """
    lengths: list[bytes] = []
    encodings: list[bytes] = []
    for name, value in pairs:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            lengths.append(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            encodings.append(value.lower())
    if encodings and (version != "1.1" or encodings != [b"chunked"] or lengths):
        raise Ambiguous("the upstream's answer has a transfer coding that is not understood")
    if lengths and (len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS):
        raise Ambiguous("the upstream's answer has no single valid Content-Length")
    length = int(lengths[0]) if lengths else None
    if method == b"HEAD" or code in (204, 304):
        return 0, not encodings and not length
    return length, True


def kept_for(pairs: Pairs) -> int | None:
    """Return for how many seconds an upstream keeps a quiet connection; ``None`` where it does not say."""
    said = [
        int(seconds)
        for name, value in pairs
        if len(name) == 10 and name.lower() == b"keep-alive"
        for seconds in _KEPT.findall(value)
    ]
    return min(said, default=None)


def date_of(pairs: Pairs) -> bytes | None:
    """Return when an answer says that it was made; ``None`` where it does not say it once."""
    said = [value for name, value in pairs if len(name) == 4 and name.lower() == b"date"]
    return said[0] if len(said) == 1 else None


def is_phrase(phrase: bytes) -> bool:
    """Return whether an answer may have this reason phrase."""
    return phrase.isalpha() or _CONTROL.search(phrase) is None


def announces_body(pairs: Pairs) -> bool:
    """Return whether a head speaks of a body, which an interim answer never has (RFC 9112 section 6.1)."""
    return any(
        lowered == b"transfer-encoding" or (lowered == b"content-length" and value != b"0")
        for lowered, value in ((name.lower(), value) for name, value in pairs)
    )
