"""The sockets that clients connect to: bound here, or handed over by whoever started the process."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from mcp_oauth2_proxy.wire.sockets import tune_socket

#: Connections the kernel holds for us before they are accepted: a burst of clients is not turned away.
BACKLOG = 1024


class CannotListen(Exception):
    """There is nothing to listen on; the message says what was tried and what came of it."""


def listen_on(address: str, *, has_ipv6: bool) -> tuple[str, int]:
    """Return the interface and port that ``server.listenAddress`` means.

    ``:8080`` is every interface: ``::``, which takes IPv4 too, where the machine has IPv6.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return host or ("::" if has_ipv6 else "0.0.0.0"), int(port)  # noqa: S104 (it is what ":8080" asks for)


def machine_has_ipv6() -> bool:
    """Return whether an IPv6 socket can be bound here: containers often come without."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def adopt(descriptor: int) -> socket.socket:
    """Return the TCP socket that this process was given as ``descriptor``: bound, and perhaps listening.

    :raises CannotListen: it is something else.
    """
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise CannotListen(f"file descriptor {descriptor} is not a socket: {error.strerror}") from None
    if (
        found.family not in (socket.AF_INET, socket.AF_INET6)
        or found.type != socket.SOCK_STREAM
        or not (found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or _is_bound(found))
    ):
        found.detach()
        raise CannotListen(f"file descriptor {descriptor} is not a TCP socket that listens")
    found.set_inheritable(False)
    found.setblocking(False)
    return found


def _is_bound(found: socket.socket) -> bool:
    """Return whether a socket has a port of its own and nobody at the other end."""
    with suppress(OSError):
        found.getpeername()
        return False
    return bool(found.getsockname()[1])


def bind(address: str) -> socket.socket:
    """Return a socket that is bound to ``server.listenAddress``, and does not listen.

    So a port that is taken is told at once, and nobody is connected to a process that cannot answer yet:
    a load balancer that is refused goes to another replica, one that is connected waits.

    :raises CannotListen: the port is taken, or the address is not this machine's.
    """
    host, port = listen_on(address, has_ipv6=machine_has_ipv6())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
    bound.setblocking(False)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListen(f"server.listenAddress: cannot listen on {address}: {error}") from None
    return bound


def listen(bound: socket.socket) -> None:
    """Have a socket of :func:`open_sockets` listen, unless it does.

    What it accepts is tuned from the beginning.

    :raises CannotListen: somebody else has begun to listen there since it was bound.
    """
    tune_socket(bound)
    if bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return  # with the queue's length that whoever made it wanted
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise CannotListen(f"server.listenAddress: cannot listen on {name_of(bound)}: {error}") from None


def open_sockets(address: str, descriptors: Sequence[int] = ()) -> list[socket.socket]:
    """Return what the process is to listen on: the sockets that it was handed, else one on ``address``.

    :raises CannotListen: with a line for the operator.
    """
    return [adopt(descriptor) for descriptor in descriptors] if descriptors else [bind(address)]


def accept_and_close(port: Port) -> None:
    """Accept every connection that waits in the kernel, and listen no more.

    What waits there when a socket is closed is reset, although its client was told that it is connected
    and has sent its request. ``stopListening`` closes a turn of the event loop later, in which more come;
    this is what it does then.
    """
    port.stopReading()
    port.numberAccepts = BACKLOG
    Port.doRead(port)  # not the subclass's: nothing is left for another process now
    port.connectionLost(Failure(ConnectionDone()))


def name_of(listening: socket.socket) -> str:
    """Return where a socket listens, for people."""
    host, port = listening.getsockname()[:2]
    return f"{host} port {port}"
