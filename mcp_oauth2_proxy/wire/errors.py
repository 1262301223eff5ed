"""What can go wrong on the wire, on either side of the proxy."""

from __future__ import annotations


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
