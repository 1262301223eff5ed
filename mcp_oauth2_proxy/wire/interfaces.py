"""What the wire adds to Twisted's own interfaces: a request whose body is a stream."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IProtocol
from twisted.web.iweb import IRequest
from zope.interface import Attribute


class IStreamingRequest(IRequest):
    """A request that is rendered as soon as its head has arrived.

    The body mirrors :class:`twisted.web.iweb.IResponse`: nothing of it is read, and no
    ``100 Continue`` is sent, until :meth:`deliverBody` is called.
    """

    target = Attribute(
        "The raw path and query of the request line, never decoded (of an absolute-form target too)."
    )
    rawHeaders = Attribute(
        "The header lines as they came: a list of (name, value) byte pairs, order and duplicates kept."
    )
    headNotes = Attribute(
        "A dict for what is made of this request's head. Requests of one connection share it where their "
        "heads are the same byte for byte but for the value of Content-Length, so that it is made once."
    )
    length = Attribute(
        "The body's length in bytes: 0 where there is none, twisted.web.iweb.UNKNOWN_LENGTH for chunked."
    )

    def first(name: bytes) -> bytes | None:
        """Return the first value of the header of that name, which is in lower case; ``None`` without one."""

    def deliverBody(protocol: IProtocol) -> None:
        """Hand the body to ``protocol``, once.

        ``protocol.makeConnection`` gets a push producer (``pauseProducing``, ``resumeProducing``,
        ``stopProducing``) that holds the client's socket back; ``dataReceived`` gets the body;
        ``connectionLost`` gets a Failure of ``twisted.web.client.ResponseDone`` when the body is
        whole, and of anything else when it is not (the client left, stalled or broke the framing).
        """

    def takeBody() -> bytes | None:
        """Return the body where all of it has come already, instead of having it delivered; else ``None``."""

    def whenLost(lost: Callable[[], None] | None) -> None:
        """Call ``lost`` if the client goes before the answer is whole; ``None`` calls nobody any more.

        It is what ``notifyFinish`` is for, without a Deferred for each request: there is one such caller.
        """

    def forgetHead(*names: bytes) -> None:
        """Keep nothing for requests that might repeat this one's head: the answer will take long.

        The header lines of these ``names``, which are in lower case, are forgotten altogether.
        """

    def abort() -> None:
        """Cut the client's connection at once, so that an unfinished answer cannot look whole."""
