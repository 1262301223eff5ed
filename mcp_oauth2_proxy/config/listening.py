"""``server.listenAddress``: an address to bind, or a socket that systemd hands over."""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

#: What a socket of systemd's begins with, as in Twisted's endpoint strings.
SYSTEMD = "systemd:"
DOMAINS = ("INET", "INET6")
#: For editors: what is likely meant, both ways round.
_WHICH = "(index=\\d{1,3}|name=[^:]+)"
PATTERN = f"^systemd:(domain=INET6?:{_WHICH}|{_WHICH}:domain=INET6?)$|^[^=]*:\\d+$"
_EXAMPLES = ":8080, 127.0.0.1:8080, [::1]:8080 or systemd:domain=INET6:index=0"
#: systemd.socket(5), ``FileDescriptorName``: no control character, no colon, 255 bytes.
_NAME = re.compile(r"[ -9;-~]{1,255}")


@frozen
class SystemdSocket:
    """A socket that is handed over, by its place among all that are, from 0, or by its name."""

    domain: str
    index: int | None = None
    name: str | None = None


def parse_systemd(text: str) -> SystemdSocket | None:
    """Return the socket that ``text`` names, ``None`` where it is an address to bind.

    The words are those of Twisted's ``systemd:`` endpoint strings: ``systemd:domain=INET6:index=0`` or
    ``systemd:domain=INET:name=http``. Raises ``ValueError``.
    """
    if not text.startswith(SYSTEMD):
        return None
    words = dict(word.partition("=")[::2] for word in text.removeprefix(SYSTEMD).split(":"))
    domain, index, name = words.pop("domain", ""), words.pop("index", None), words.pop("name", None)
    if words or domain not in DOMAINS or (index is None) == (name is None):
        raise ValueError(
            f"{text!r} does not name one of systemd's sockets; expected systemd:domain=INET6:index=0 or "
            "systemd:domain=INET6:name=NAME (or INET for IPv4)"
        )
    if index is not None and not re.fullmatch(r"[0-9]{1,3}", index):
        raise ValueError(f"{text!r} has no usable index; expected 0 for the first socket, 1 for the next")
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} has no usable name; expected the socket unit's FileDescriptorName")
    return SystemdSocket(domain, None if index is None else int(index), name)


def check_listen_address(text: str) -> str:
    """Return ``text``; raises ``ValueError`` where nothing can listen on it."""
    if parse_systemd(text) is not None:
        return text
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    valid = colon == ":" and port.isdecimal() and port.isascii() and int(port) <= 65535
    if valid and host:
        try:
            valid = (ipaddress.ip_address(bare).version == 6) == host.startswith("[")
        except ValueError:
            valid = False
    if not valid:
        raise ValueError(f"{text!r} is not a listen address; expected {_EXAMPLES}")
    return text
