"""The corpus: bytes in, judgement out. The cases are files, whose fields are explained here.

``send`` is what goes over the wire. Line breaks of the file do not count and escapes do, those of Python's
bytes. ``<NAME>`` stands for one of the texts below, ``<text*1000>`` for a thousand times a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

_CORPUS = Path(__file__).with_name("corpus")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_REPEATED = re.compile(r"<([^<>]*)\*(\d+)>")
_SIMPLE = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_HOST = r"Host: mcp.example\r\n"
_AUTH = r"Authorization: Bearer {token}\r\n"

REQUEST_TEXTS = {
    "HOST": _HOST,
    "AUTH": _AUTH,
    "HEAD": _HOST + _AUTH,
    "GET": r"GET /ok HTTP/1.1\r\n" + _HOST + _AUTH + r"\r\n",
    "CHUNKED": r"POST /mcp HTTP/1.1\r\n" + _HOST + _AUTH + r"Transfer-Encoding: chunked\r\n\r\n",
}
ANSWER_TEXTS = {
    "CHUNKED": r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET": r"GET /ok HTTP/1.1\r\n" + _HOST + r"\r\n",
}


@frozen
class RequestCase:
    """What a client sends on one connection, and what must become of it."""

    name: str
    #: Where it is written that it must, or why it is so.
    why: str
    send: bytes
    #: The statuses that the client gets, in order; interim ones do not count.
    answers: tuple[int, ...]
    #: What the upstream gets, in order: method, target and body of each request, with spaces between.
    upstream: tuple[bytes, ...]
    #: Whether the connection ends with the last answer. If not, the next request on it is answered, unless
    #: it ``waits``: then the last request is not whole, and it is 408 if its client does not go on.
    closed: bool
    waits: bool
    #: Header names that must not reach the upstream.
    absent: tuple[bytes, ...]
    #: The only place this can be seen in, if it is not both: ``memory`` has no routes but the relay's, and
    #: the program's own routes take what begins like them.
    only: str | None


@frozen
class AnswerCase:
    """What an upstream sends for one request, and what must become of it."""

    name: str
    why: str
    send: bytes
    method: bytes
    #: Whether the upstream closes the connection behind it.
    hangs_up: bool
    #: The status that the client gets and the body, whole; ``None`` where it is 502 or the connection is cut,
    #: as the head has been passed on or not.
    status: int | None
    body: bytes
    #: Whether the connection carries another request.
    reused: bool
    #: Header names that must not reach the client.
    absent: tuple[bytes, ...]


def written(text: str, texts: Mapping[str, str]) -> bytes:
    """Return the bytes that ``text`` stands for."""
    text = re.sub(r"<([A-Z]+)>", lambda match: texts.get(match[1], match[0]), text.replace("\n", ""))
    text = _REPEATED.sub(lambda match: match[1] * int(match[2]), text)
    text = _ESCAPE.sub(
        lambda match: chr(int(match[1][1:], 16)) if match[1][0] == "x" else _SIMPLE[match[1]], text
    )
    return text.encode("latin-1")


def _many(values: list[Any]) -> list[str]:
    found: list[str] = []
    for value in map(str, values):
        repeated = _REPEATED.fullmatch(value)
        found += [repeated[1]] * int(repeated[2]) if repeated else [value]
    return found


def _documents(direction: str, fields: set[str]) -> list[dict[str, Any]]:
    found = []
    for path in sorted((_CORPUS / direction).glob("*.yaml")):
        for document in yaml.safe_load(path.read_text(encoding="utf-8")):
            name = f"{path.stem}: {document['name']}"
            unknown = document.keys() - fields
            if unknown or not document["why"]:
                raise ValueError(f"{name}: {unknown or 'no reason is given'}")
            found.append({**document, "name": name})
    if len({document["name"] for document in found}) != len(found):
        raise ValueError("two cases have one name")
    return found


def request_cases() -> list[RequestCase]:
    """Return all that clients may send."""
    cases = []
    fields = {"name", "why", "send", "answers", "upstream", "closed", "waits", "absent", "only"}
    for document in _documents("requests", fields):
        answers = tuple(map(int, _many(document.get("answers", []))))
        waits = document.get("waits", False)
        cases.append(
            RequestCase(
                name=document["name"],
                why=document["why"],
                send=written(document["send"], REQUEST_TEXTS),
                answers=answers,
                upstream=tuple(written(line, REQUEST_TEXTS) for line in _many(document.get("upstream", []))),
                closed=document.get("closed", not waits and (not answers or answers[-1] >= 400)),
                waits=waits,
                absent=tuple(name.encode() for name in document.get("absent", [])),
                only=document.get("only"),
            )
        )
    return cases


def answer_cases() -> list[AnswerCase]:
    """Return all that upstreams may send."""
    cases = []
    fields = {"name", "why", "send", "method", "hangs_up", "client", "reused", "absent"}
    for document in _documents("answers", fields):
        status, _, body = str(document["client"]).partition(" ")
        cases.append(
            AnswerCase(
                name=document["name"],
                why=document["why"],
                send=written(document["send"], ANSWER_TEXTS),
                method=document.get("method", "GET").encode(),
                hangs_up=document.get("hangs_up", False),
                status=None if status == "broken" else int(status),
                body=body.encode(),
                reused=document.get("reused", False),
                absent=tuple(name.encode() for name in document.get("absent", [])),
            )
        )
    return cases
