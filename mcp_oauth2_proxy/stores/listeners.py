"""Who wants to hear what is said on which channel: what the stores' publish and subscribe share."""

from __future__ import annotations

from attrs import define
from twisted.logger import Logger

from mcp_oauth2_proxy.stores.interfaces import Listener, Missed, Unsubscribe


@define(eq=False)
class _Subscription:
    channel: str
    listener: Listener
    missed: Missed | None
    ended: bool = False


class Listeners:
    """The subscriptions of one process. A listener that fails is logged and disturbs nobody."""

    _log = Logger()

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []

    @property
    def channels(self) -> frozenset[str]:
        """The channels that anybody listens to."""
        return frozenset(subscription.channel for subscription in self._subscriptions)

    def add(self, channel: str, listener: Listener, missed: Missed | None) -> Unsubscribe:
        """Take in a subscription; the returned function ends it, and may be called twice."""
        subscription = _Subscription(channel, listener, missed)
        self._subscriptions.append(subscription)

        def unsubscribe() -> None:
            if not subscription.ended:
                subscription.ended = True
                self._subscriptions.remove(subscription)

        return unsubscribe

    def tell(self, channel: str, message: bytes) -> None:
        """Hand ``message`` to everybody who listens to ``channel``."""
        for subscription in list(self._subscriptions):
            if subscription.channel == channel and not subscription.ended:
                try:
                    subscription.listener(message)
                except Exception:
                    self._log.failure("a listener of {channel} failed", channel=channel)

    def tell_missed(self) -> None:
        """Tell everybody that messages may have been missed."""
        for subscription in list(self._subscriptions):
            if subscription.missed is not None and not subscription.ended:
                try:
                    subscription.missed()
                except Exception:
                    self._log.failure("a listener of {channel} failed", channel=subscription.channel)
