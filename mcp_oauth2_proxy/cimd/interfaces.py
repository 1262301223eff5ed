"""Copies of documents beyond one process, as :class:`~mcp_oauth2_proxy.cimd.library.Library` sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface


@frozen
class Copy:
    """What a document's host said at ``said_at``, in seconds since the epoch.

    The ``document`` is fresh for ``lifetime`` seconds from then on. ``None`` says that the host had no good
    one then, so that no earlier copy holds.
    """

    document: Mapping[str, Any] | None = field(repr=False)
    said_at: float
    lifetime: float = 0.0


class ICopies(Interface):
    """Where copies are that others can use too. It may lose any of them, and never fails."""

    def find(url: str) -> Deferred[Copy | None]:
        """Return the copy that belongs to ``url``; ``None`` where there is none, or none to be had now."""

    def keep(url: str, copy: Copy) -> Deferred[None]:
        """Keep ``copy`` in place of an older one, if that can be done."""
