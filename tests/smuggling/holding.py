"""How many bytes of strangers the product holds in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from mcp_oauth2_proxy.wire.site import WireSite

_OURS = ("mcp_oauth2_proxy.wire.", "mcp_oauth2_proxy.relay.")


def held(root: Any) -> int:
    """Return the length of all bytes that ``root`` leads to, within wire and relay."""
    total, waiting, seen = 0, [root], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, WireSite):
            continue
        seen.add(id(found))
        if isinstance(found, bytes | bytearray):
            total += len(found)
        elif isinstance(found, dict):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set | frozenset | deque):
            waiting += found
        elif type(found).__module__.startswith(_OURS):
            waiting += _attributes(found)
    return total


def _attributes(found: Any) -> Iterator[Any]:
    yield from getattr(found, "__dict__", {}).values()
    for place in type(found).__mro__:
        for name in getattr(place, "__slots__", ()):
            yield getattr(found, name, None)
