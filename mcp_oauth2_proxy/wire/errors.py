"""What can go wrong on the wire, on either side of the proxy."""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

#: The end of a body that has come whole: one for all, since it is about none of them in particular.
WHOLE = Failure(ResponseDone())


def is_whole(reason: Failure) -> bool:
    """Return whether a body's end is that of a whole one."""
    return isinstance(reason.value, ResponseDone)


class WireError(Exception):
    """The root of this tree."""


class BodyTooLarge(WireError):
    """A request body is larger than its reader allows."""


class BodyIncomplete(WireError):
    """A request body ended before its end: the client left, stalled or broke the framing."""


class UpstreamGone(WireError):
    """The upstream closed the connection before its answer was whole."""


class ResponseHeadTimeout(WireError):
    """The upstream did not begin its answer in time."""


class MalformedResponse(WireError):
    """The upstream's answer is no HTTP/1 response that can be passed on."""
