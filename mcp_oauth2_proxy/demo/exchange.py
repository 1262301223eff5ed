"""What is observed of the demo's traffic."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen


@frozen
class Exchange:
    """One HTTP exchange: who asked (``client``, ``browser``, ``proxy``), for what, how it was answered."""

    actor: str
    method: str
    #: Whole, so never to be shown as it is: its query may hold a code.
    url: str = field(repr=False)
    status: int


Observer = Callable[[Exchange], None]
