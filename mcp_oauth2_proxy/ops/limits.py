"""How often the OAuth endpoints answer: for one client address, and in all. Pure.

Each limit is a bucket that holds its count and fills up evenly over its period (the generic cell rate
algorithm: one number a bucket). A request that one of the two refuses uses up nothing of either, so that a
flood from one address leaves the others their share.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from ipaddress import IPv6Address, ip_address

from attrs import define, frozen

from mcp_oauth2_proxy.config.model import Limits, Rate

#: Addresses that are remembered, at least and at most. Where a total is set, an address is remembered for
#: as long as it matters: to push it out, a flood from others would have to pass the total first.
ADDRESSES = (4096, 65536)
#: Seconds between two words to the log about refusals of one kind.
REPORT_EVERY = 10.0
#: Bits of an IPv6 address that belong to one client: the least that providers assign.
_PREFIX = 64


class LimitKind(Enum):
    """What is counted together: its value is the name in the configuration."""

    REGISTER = "register"
    AUTHORIZE = "authorize"
    TOKEN = "token"  # noqa: S105 (the name of a limit)


@frozen
class Limited:
    """A refused request: ``retry_after`` is in seconds, ``setting`` the limit that refused it.

    ``refused`` is how many were refused since the last report when one is due, else ``None``.
    """

    retry_after: float
    setting: str
    refused: int | None


@define
class _Report:
    due: float = float("-inf")
    refused: int = 0


class RateLimits:
    """``limits.*`` at work."""

    def __init__(self, limits: Limits) -> None:
        self._pairs = {
            LimitKind.REGISTER: _Pair("register", limits.register_per_address, limits.register_total),
            LimitKind.AUTHORIZE: _Pair("authorize", limits.authorize_per_address, limits.authorize_total),
            LimitKind.TOKEN: _Pair("token", limits.token_per_address, limits.token_total),
        }

    def check(self, kind: LimitKind, address: str, now: float) -> Limited | None:
        """Count one request of ``kind`` from ``address`` at ``now`` (seconds), or say why it is refused."""
        return self._pairs[kind].check(address_key(address), now)


def address_key(address: str) -> str:
    """Return under which name ``address`` is counted: an IPv6 client has a whole network of addresses."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> (128 - _PREFIX):x}/{_PREFIX}"


class _Pair:
    """One kind of request: the limit of each address, and the total."""

    def __init__(self, name: str, per_address: Rate, total: Rate) -> None:
        self._name = name
        self._per_address = per_address
        self._total = total
        least, most = ADDRESSES
        self._capacity = min(max(2 * total.count, least), most)
        #: When each bucket is full again; of an address whose bucket is full nothing need be known.
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._all_full_at = 0.0
        self._report = _Report()

    def check(self, key: str, now: float) -> Limited | None:
        full_at, wait = _drop(self._per_address, self._full_at.get(key, 0.0), now)
        if wait > 0:
            return self._refuse("PerAddress", wait, now)
        all_full_at, wait = _drop(self._total, self._all_full_at, now)
        if wait > 0:
            return self._refuse("Total", wait, now)
        self._all_full_at = all_full_at
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)
        return None

    def _refuse(self, which: str, wait: float, now: float) -> Limited:
        report = self._report
        report.refused += 1
        refused = None
        if now >= report.due:
            refused, report.refused, report.due = report.refused, 0, now + REPORT_EVERY
        return Limited(wait, f"limits.{self._name}{which}", refused)


def _drop(rate: Rate, full_at: float, now: float) -> tuple[float, float]:
    """Return when the bucket is full again after one more request, and how long that request has to wait."""
    if not rate.count:
        return 0.0, 0.0
    # A clock that was set back would make the bucket wait for the difference too.
    full_at = min(max(full_at, now), now + rate.seconds)
    after = full_at + rate.seconds / rate.count
    # The tolerance keeps sums of fractions from costing the last request of a burst.
    wait = after - (now + rate.seconds)
    return after, wait if wait > 1e-6 * rate.seconds else 0.0
