"""Query strings, forms and JSON documents from outside, read strictly.

Everything is bounded, UTF-8 only, and ends in a value or in an :exc:`OAuthError` of status 4xx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, invalid_request

#: Bytes of a body at an OAuth endpoint: registrations and token requests are a few kilobytes.
MAX_BODY = 1024 * 1024
#: Bytes of a query: below the 64 KiB head that the wire accepts, above any client_id (12 KiB) we issue.
MAX_QUERY = 60 * 1024
#: Parameters of one request; the longest honest authorization request has about fifteen.
MAX_PARAMETERS = 100
#: Characters of one name and of one value; the longest honest value is a sealed refresh token.
MAX_NAME = 256
MAX_VALUE = 32 * 1024
#: Nesting of a JSON document; a registration with its `jwks` needs four levels.
MAX_DEPTH = 16

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: RFC 8707 section 2 is the one place where a parameter may come more than once.
_RESOURCE = "resource"


@frozen
class Parameters:
    """The parameters of one request. Values may be secrets: none shows in a ``repr``."""

    values: Mapping[str, str] = field(repr=False)
    repeated: frozenset[str] = frozenset()
    resources: tuple[str, ...] = ()

    def get(self, name: str) -> str | None:
        """Return the value of ``name``, ``None`` where it is absent or empty (RFC 6749 section 3.1)."""
        return self.values.get(name)

    def require(self, name: str) -> str:
        """Return the value of ``name`` or refuse with ``invalid_request``."""
        value = self.values.get(name)
        if value is None:
            raise invalid_request(f"{name} is missing", Reason.MISSING)
        return value

    def refuse_repeated(self, *names: str) -> None:
        """Refuse a request that repeats one of ``names``, of all names when none is given (RFC 6749 3.1)."""
        repeated = self.repeated.intersection(names) if names else self.repeated
        if repeated:
            known = sorted(name for name in repeated if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name))
            what = known[0] if known else "a parameter"
            raise invalid_request(f"{what} is given more than once", Reason.REPEATED)


def parse_query(raw: bytes) -> Parameters:
    """Read a query string (``application/x-www-form-urlencoded``, UTF-8)."""
    if len(raw) > MAX_QUERY:
        raise OAuthError("invalid_request", 414, "the query is too long", reason=Reason.BODY_TOO_LARGE)
    return _parse_pairs(raw)


def parse_form(body: bytes, content_type: str | None) -> Parameters:
    """Read a form body; any other content type is refused (RFC 6749 appendix B)."""
    _check_type(content_type, "application/x-www-form-urlencoded")
    _check_size(body)
    return _parse_pairs(body)


def _parse_pairs(raw: bytes) -> Parameters:
    if _BAD_ESCAPE.search(raw):
        _malformed("the parameters are not percent-encoded correctly")
    parts = [part for part in raw.split(b"&") if part]
    if len(parts) > MAX_PARAMETERS:
        _malformed("there are too many parameters")
    values: dict[str, str] = {}
    repeated: set[str] = set()
    resources: list[str] = []
    for part in parts:
        raw_name, _, raw_value = part.partition(b"=")
        name, value = _decode(raw_name), _decode(raw_value)
        if not name or len(name) > MAX_NAME:
            _malformed("a parameter's name is empty or too long")
        if len(value) > MAX_VALUE:
            _malformed("a parameter's value is too long")
        if _CONTROL.search(name) or _CONTROL.search(value):
            _malformed("the parameters contain control characters")
        if not value:
            continue
        if name == _RESOURCE:
            resources.append(value)
        elif name in values:
            repeated.add(name)
        else:
            values[name] = value
    return Parameters(values, frozenset(repeated), tuple(dict.fromkeys(resources)))


def _decode(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        _malformed("the parameters are not UTF-8")


def parse_json_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Read a JSON object (RFC 8259): no duplicate keys, no NaN, no lone surrogates, bounded depth.

    Raises ``invalid_client_metadata``, since registration is what sends JSON (RFC 7591 section 3.2.2).
    """
    _check_type(content_type, "application/json", code="invalid_client_metadata")
    _check_size(body)
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        # Lone surrogates ("\ud800") are valid JSON escapes but no text: they could not be answered in UTF-8.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _metadata(f"the body is not valid JSON in UTF-8{_hint(error)}") from None
    if not isinstance(document, dict):
        raise _metadata("the body must be a JSON object")
    if _deeper_than(document, MAX_DEPTH):
        raise _metadata("the JSON document is nested too deeply")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


class _DuplicateKeyError(ValueError):
    """An object names one key twice; parsers disagree about which wins, so neither does."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _hint(error: Exception) -> str:
    if isinstance(error, _DuplicateKeyError):
        return ": an object names one key twice"
    if isinstance(error, json.JSONDecodeError):
        return f" (line {error.lineno}, column {error.colno})"
    return ""


def _deeper_than(document: Any, depth: int) -> bool:
    level: list[Any] = [document]
    for _ in range(depth + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [
            child for item in containers for child in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _check_type(content_type: str | None, expected: str, *, code: str = "invalid_request") -> None:
    media, _, options = (content_type or "").partition(";")
    if media.strip().lower() != expected:
        raise OAuthError(code, 400, f"the content type must be {expected}", reason=Reason.CONTENT_TYPE)
    charset = re.search(r"charset\s*=\s*\"?([^\";\s]*)", options, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise OAuthError(code, 400, "the body must be in UTF-8", reason=Reason.CONTENT_TYPE)


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY:
        raise body_too_large()


def body_too_large(most: int = MAX_BODY) -> OAuthError:
    """Return the answer to a body of more than ``most`` bytes."""
    return OAuthError(
        "invalid_request", 413, f"the body is larger than {most} bytes", reason=Reason.BODY_TOO_LARGE
    )


def _malformed(description: str) -> NoReturn:
    raise invalid_request(description, Reason.MALFORMED)


def _metadata(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", 400, description, reason=Reason.MALFORMED)
