"""Copies of metadata documents in the store: for other replicas, and for this one once it has restarted.

They have a fixed number of places there, each of which holds one: so whoever publishes documents without end
displaces copies, and never fills the store that logins need. A document may be in either of two places and
the older copy gives way, so that the few that people use hardly ever meet.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mcp_oauth2_proxy.cimd.interfaces import Copy, ICopies
from mcp_oauth2_proxy.cimd.library import STALE
from mcp_oauth2_proxy.config.model import Cimd
from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.sealing import Purpose, digest
from mcp_oauth2_proxy.facade.vault import Vault

#: Copies in the store at most: as many good ones as a process remembers.
PLACES = 512
#: Bytes of a document that is kept there; those in use have less than 4 KB. With :data:`PLACES` and what
#: sealing adds this makes 12 MB at most.
MAX_COPY = 16 * 1024

_Record = Mapping[str, Any]


@implementer(ICopies)
class StoredCopies:
    """Sealed copies in the store behind ``vault``, of documents of one ``kind`` fetched under ``policy``.

    What was fetched while other networks were allowed, or another authority was trusted, is no copy: where
    the operator closes a door, nothing that came through it is used.
    """

    _log = Logger()

    def __init__(self, vault: Vault, *, kind: str, policy: Cimd) -> None:
        self._vault = vault
        self._origin = [kind, ",".join(sorted(policy.allowed_networks)), policy.ca_file or ""]
        self._keeps = True

    def find(self, url: str) -> Deferred[Copy | None]:
        """See :class:`ICopies`."""
        return Deferred.fromCoroutine(self._find(url))

    def keep(self, url: str, copy: Copy) -> Deferred[None]:
        """See :class:`ICopies`. A document that is too large is not kept, and an older copy of it goes."""
        return Deferred.fromCoroutine(self._keep(url, copy))

    async def _find(self, url: str) -> Copy | None:
        title = [*self._origin, url]
        try:
            for place in _places(title):
                record = await self._look(place)
                if record is not None and record.get("title") == title:
                    return Copy(record["document"], record["said_at"], record["lifetime"])
        except OAuthError:  # the store is down, which is told elsewhere; the host may well answer
            pass
        return None

    async def _keep(self, url: str, copy: Copy) -> None:
        title = [*self._origin, url]
        fits = _size(copy.document) <= MAX_COPY
        record = {
            "title": title,
            "document": copy.document if fits else None,
            "said_at": copy.said_at,
            "lifetime": copy.lifetime,
        }
        try:
            there = [(place, await self._look(place)) for place in _places(title)]
            place = _place_for(record, there)
            if place is not None:
                await self._vault.put(place, Purpose.COPY, record, STALE)
        except OAuthError as error:
            self._cannot_keep(url, error.detail)
        except RecursionError:  # its maker wanted that
            self._cannot_keep(url, "it is nested too deeply")
        else:
            if fits:
                self._keeps = True
            else:
                self._cannot_keep(url, f"it is larger than {MAX_COPY} bytes")

    async def _look(self, place: str) -> _Record | None:
        return await self._vault.look(place, Purpose.COPY, STALE)

    def _cannot_keep(self, url: str, why: str) -> None:
        if self._keeps:
            self._log.warn("a copy of {url} cannot be kept in the store: {why}", url=url, why=why)
        self._keeps = False


def _places(title: Sequence[str]) -> tuple[str, str]:
    """Return the two places for the copy of this ``title``."""
    raw = urlsafe_b64decode(digest(*title) + "=")
    first, second = (int.from_bytes(part) % PLACES for part in (raw[:16], raw[16:]))
    return f"copy:{first}", f"copy:{second}"


def _place_for(record: _Record, there: Sequence[tuple[str, _Record | None]]) -> str | None:
    """Return where ``record`` goes, given what is in its places; ``None``: nowhere."""
    for place, old in there:
        if old is not None and old.get("title") == record["title"]:
            return place if old["said_at"] <= record["said_at"] else None
    if record["document"] is None:
        return None  # there is no copy that it would have to take the place of
    return min(there, key=lambda found: 0.0 if found[1] is None else found[1]["said_at"])[0]


def _size(document: Mapping[str, Any] | None) -> int:
    """Return the bytes of the ``document`` as it is sealed."""
    try:
        return len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
    except RecursionError:
        return MAX_COPY + 1
