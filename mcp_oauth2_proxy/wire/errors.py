"""What can go wrong on the wire, on either side of the proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

if TYPE_CHECKING:
    from mcp_oauth2_proxy.wire.requests import Upload

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


class BodyMalformed(BodyIncomplete):
    """The framing of a request body is broken."""


class BodyStalled(BodyIncomplete):
    """A request body did not go on in time."""


class UpstreamGone(WireError):
    """The upstream closed the connection before its answer was whole."""


class NotSent(UpstreamGone):
    """A kept connection has closed, and the operating system had not taken a byte of the request.

    ``data`` is all that was written of the request, ``upload`` what is still to come of its body.
    """

    def __init__(self, data: bytes, upload: Upload | None) -> None:
        super().__init__("the connection had closed before the request was sent")
        self.data = data
        self.upload = upload

    def give_up(self, reason: Failure) -> Failure:
        """There is no other connection, for this reason: nobody waits for the body any more."""
        if self.upload is not None:
            self.upload.stop()
        return reason


class ResponseHeadTimeout(WireError):
    """The upstream did not begin its answer in time."""


class UploadStalled(WireError):
    """The upstream has begun to answer, and neither goes on nor takes more of the request."""


class MalformedResponse(WireError):
    """The upstream's answer is no HTTP/1 response that can be passed on."""
