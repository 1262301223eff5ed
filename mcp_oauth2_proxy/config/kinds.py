"""What a setting may hold: how it is read, what is said when it cannot be, and its JSON Schema."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from mcp_oauth2_proxy.config.durations import PATTERN as DURATION_PATTERN
from mcp_oauth2_proxy.config.durations import format_duration, parse_duration
from mcp_oauth2_proxy.config.listening import PATTERN as LISTEN_PATTERN
from mcp_oauth2_proxy.config.listening import check_listen_address
from mcp_oauth2_proxy.config.model import AUTO, Rate, Secret, StoreUrl
from mcp_oauth2_proxy.config.store_url import parse_store_url

#: Shortest sealing key in characters: 32 random ones hold more than 128 bits in any usual alphabet.
MIN_SEALING_KEY = 32
#: More processes than any machine has CPUs for are a mistake.
MAX_WORKERS = 256


@frozen
class Kind:
    """``read`` takes what YAML or the environment gave and raises ``ValueError`` saying what is wrong.

    The message follows the field's name: "is not a duration; expected for example 30s".
    """

    name: str
    read: Callable[[object], Any]
    schema: Mapping[str, Any]
    show: Callable[[Any], str] = str
    is_list: bool = False
    is_secret: bool = False


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is {_name_of(value)}; expected text")  # noqa: TRY004 (it becomes a line for the operator)
    text = str(value).strip()
    if not text:
        raise ValueError("is empty")
    if any(ord(character) < 32 for character in text):
        raise ValueError("has a control character")
    return text


def _name_of(value: object) -> str:
    if value is None:
        return "empty"
    names = {bool: "a truth value", list: "a list", dict: "a mapping"}
    return names.get(type(value), "of another type")


def _url(value: object) -> str:
    text = _text(value)
    expected = "expected an absolute URL such as https://host/path"
    if not text.isascii() or " " in text or "\\" in text:
        raise ValueError(f"{text!r} is not a URL; {expected}")
    try:
        split = urlsplit(text)
        _ = split.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL ({error}); {expected}") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError(f"{text!r} is not an absolute http or https URL; {expected}")
    if "@" in split.netloc:
        raise ValueError(f"must not carry a user name or password; {expected}")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r} has a query or fragment; {expected}")
    return text.rstrip("/")


def _origin_path(value: object) -> str:
    """The upstream's URL keeps its trailing slash: it decides how paths are joined."""
    text = _text(value)
    return text if _url(text) and text.endswith("/") and urlsplit(text).path != "/" else _url(text)


def _duration(value: object) -> float:
    text = _text(value)
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from None


def _positive_duration(value: object) -> float:
    seconds = _duration(value)
    if not seconds:
        raise ValueError("must be longer than 0s: nobody could log in")
    return seconds


#: Seconds for which a logout may be remembered: below, no access token would be covered; above, starting
#: would mean reading a long past.
MIN_LOGOUT_MEMORY, MAX_LOGOUT_MEMORY = 60.0, 7 * 86400.0


def _logout_memory(value: object) -> float:
    seconds = _duration(value)
    if not MIN_LOGOUT_MEMORY <= seconds <= MAX_LOGOUT_MEMORY:
        raise ValueError("must be from 1m to 168h: what access tokens live, and no week")
    return seconds


#: Seconds for which Keycloak's word may be taken: below, every request would ask; above, nobody would gain.
MIN_INTROSPECTION, MAX_INTROSPECTION = 1.0, 300.0


def _introspection(value: object) -> float:
    seconds = _duration(value)
    if seconds and not MIN_INTROSPECTION <= seconds <= MAX_INTROSPECTION:
        raise ValueError("must be from 1s to 5m, or 0s for not asking Keycloak at all")
    return seconds


_SIZE = re.compile(r"(\d{1,15})\s*(|b|kib|mib|gib)", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def _size(value: object) -> int:
    text = _text(value)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; expected bytes, or for example 64KiB or 4MiB")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def _positive_size(value: object) -> int:
    size = _size(value)
    if not size:
        raise ValueError("must be larger than 0: no request would fit")
    return size


def _count(value: object) -> int:
    text = _text(value)
    if not re.fullmatch(r"\d{1,9}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)


def _limit(value: object) -> int:
    text = _text(value)
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is not a number from 0, which is no limit")
    return int(text)


def _workers(value: object) -> int:
    text = _text(value)
    if text.lower() == "auto":
        return AUTO
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"{text!r} is not a number from 1 to {MAX_WORKERS}, or auto")
    return int(text)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    text = _text(value).lower()
    if text not in words:
        raise ValueError(f"{text!r} is not a truth value; expected true or false")
    return words[text]


def _listen_address(value: object) -> str:
    return check_listen_address(_text(value))


def _network(value: object) -> str:
    text = _text(value)
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address or CIDR network; expected for example 10.0.0.0/8"
        ) from None


_HOST_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_HOST_RULE = re.compile(rf"(\*\.)?{_HOST_NAME}")
_SCHEME_RULE = re.compile(r"[a-z][a-z0-9+.-]*://")


def _host_rule(value: object) -> str:
    text = _text(value).lower()
    if _HOST_RULE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a host; expected for example claude.ai or *.example.com")
    return text


def _redirect_rule(value: object) -> str:
    text = _text(value).lower()
    if _HOST_RULE.fullmatch(text) is None and _SCHEME_RULE.fullmatch(text) is None:
        examples = "claude.ai, *.example.com, loopback or cursor://"
        raise ValueError(f"{text!r} is no place to lead to; expected for example {examples}")
    return text


def _origin(value: object) -> str:
    text = _text(value).lower()
    if text == "*":
        return text
    url = _url(text)
    if urlsplit(url).path:
        raise ValueError(f"{text!r} has a path; expected an origin such as https://app.example.com")
    return url


def _port(value: object) -> int:
    text = _text(value)
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is not a port; expected 1 to 65535")
    return int(text)


_RATE = re.compile(r"(\d{1,9})\s*/\s*(\S+)", re.ASCII)


def _rate(value: object) -> Rate:
    text = _text(value)
    if text == "0":
        return Rate(0, 1.0)
    match = _RATE.fullmatch(text)
    try:
        # As in "600/m": the number before the unit may be left out.
        period = parse_duration(match[2] if match[2][0].isdecimal() else f"1{match[2]}") if match else 0.0
    except ValueError:
        period = 0.0
    if match is None or not period:
        raise ValueError(f"{text!r} is not a rate; expected for example 600/1m, or 0 for no limit")
    return Rate(int(match[1]), period)


def _show_rate(rate: Rate) -> str:
    return f"{rate.count}/{format_duration(rate.seconds)}" if rate.count else "0"


_SCOPE = re.compile(r"[!#-\[\]-~]+")


def _scope(value: object) -> str:
    text = _text(value)
    if _SCOPE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a scope; expected one word without quotes or backslashes")
    return text


def _readable_file(value: object) -> str:
    text = _text(value)
    try:
        with Path(text).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(f"{text!r} cannot be read: {error.strerror}") from None
    return text


def _ca_file(value: object) -> str:
    path = _readable_file(value)
    if b"-----BEGIN CERTIFICATE-----" not in Path(path).read_bytes():
        raise ValueError(f"{path!r} holds no PEM certificate")
    return path


def _store_url(value: object) -> StoreUrl:
    return parse_store_url(_text(value))


def _secret(value: object) -> Secret:
    return Secret(_text(value))


def _sealing_key(value: object) -> Secret:
    text = _text(value)
    if len(text) < MIN_SEALING_KEY:
        raise ValueError(f"is too short; expected {MIN_SEALING_KEY} random characters or more")
    return Secret(text)


TEXT = Kind("text", _text, {"type": "string", "minLength": 1})
URL = Kind("URL", _url, {"type": "string", "pattern": "^(https?://|\\$\\{)"})
UPSTREAM_URL = Kind("URL", _origin_path, URL.schema)
DURATION = Kind(
    "duration",
    _duration,
    {"type": ["string", "integer"], "pattern": DURATION_PATTERN, "maximum": 0},
    format_duration,
)
SIZE = Kind(
    "size",
    _size,
    {"type": ["integer", "string"], "minimum": 0, "pattern": "^\\d+\\s*([bB]|[kKmMgG][iI][bB])?$"},
)
POSITIVE_DURATION = Kind(
    "duration", _positive_duration, {"type": "string", "pattern": DURATION_PATTERN}, format_duration
)
LOGOUT_MEMORY = Kind("duration", _logout_memory, POSITIVE_DURATION.schema, format_duration)
INTROSPECTION = Kind("duration", _introspection, DURATION.schema, format_duration)
POSITIVE_SIZE = Kind("size", _positive_size, {**SIZE.schema, "minimum": 1})
COUNT = Kind("number", _count, {"type": "integer", "minimum": 1})
LIMIT = Kind("number", _limit, {"type": "integer", "minimum": 0})
WORKERS = Kind(
    "number",
    _workers,
    {"type": ["integer", "string"], "minimum": 1, "maximum": MAX_WORKERS, "pattern": "^(auto|\\d{1,3})$"},
    lambda value: "auto" if value == AUTO else str(value),
)
FLAG = Kind("true or false", _flag, {"type": "boolean"}, lambda value: "true" if value else "false")
LISTEN_ADDRESS = Kind("address", _listen_address, {"type": "string", "pattern": LISTEN_PATTERN})
NETWORK = Kind("network", _network, {"type": "string"})
SCOPE = Kind("scope", _scope, {"type": "string", "pattern": "^[!#-\\[\\]-~]+$"})
HOST_RULE = Kind("host", _host_rule, {"type": "string", "pattern": "^[*a-zA-Z0-9.-]+$"})
REDIRECT_RULE = Kind("place", _redirect_rule, {"type": "string", "pattern": "^[*a-zA-Z0-9.+-]+(://)?$"})
ORIGIN = Kind("origin", _origin, {"type": "string", "pattern": "^(\\*|https?://[^/]+/?)$"})
PORT = Kind("port", _port, {"type": "integer", "minimum": 1, "maximum": 65535})
RATE = Kind(
    "rate",
    _rate,
    {"type": ["string", "integer"], "pattern": "^(0|\\d{1,9} ?/ ?[0-9a-zµ.]+)$", "maximum": 0},
    _show_rate,
)
CA_FILE = Kind("file", _ca_file, {"type": "string", "minLength": 1})
#: It may carry a password: it can come from a file, and shows itself without.
STORE_URL = Kind(
    "store URL",
    _store_url,
    {"type": "string", "pattern": "^(memory://$|sqlite:///|rediss?(\\+sentinel|\\+cluster)?://|\\$\\{)"},
    is_secret=True,
)
SECRET = Kind("secret", _secret, {"type": "string", "minLength": 1}, lambda _: "***", is_secret=True)
SEALING_KEY = Kind(
    "secret", _sealing_key, {"type": "string", "minLength": MIN_SEALING_KEY}, lambda _: "***", is_secret=True
)


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list; a single value stands for a list of one."""

    def read(value: object) -> tuple[Any, ...]:
        items = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(kind.read(item) for item in items)

    def show(values: tuple[Any, ...]) -> str:
        return "[" + ", ".join(kind.show(value) for value in values) + "]"

    schema = {"type": "array", "items": kind.schema}
    return Kind(f"list of {kind.name}s", read, schema, show, is_list=True, is_secret=kind.is_secret)


def one_of(words: tuple[str, ...], make: Callable[[str], Any] = str) -> Kind:
    """Return the kind of an enumeration; letter case does not matter."""
    by_lower = {word.lower(): word for word in words}

    def read(value: object) -> Any:
        text = _text(value)
        if text.lower() not in by_lower:
            raise ValueError(f"{text!r} is not accepted; expected {', '.join(words)}")
        return make(by_lower[text.lower()])

    def show(value: Any) -> str:
        return str(value.value) if isinstance(value, Enum) else str(value)

    return Kind(" / ".join(words), read, {"enum": list(words)}, show)
