"""The sockets that systemd handed to the process (sd_listen_fds(3)), and which of them are meant."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence

from attrs import frozen

from mcp_oauth2_proxy.config.listening import SystemdSocket, parse_systemd
from mcp_oauth2_proxy.wire.listening import CannotListen, adopt

#: The first descriptor that systemd hands over (sd_listen_fds(3), ``SD_LISTEN_FDS_START``).
FIRST_INHERITED = 3


@frozen
class Inherited:
    """File descriptors, and the name of each; no names where they were not told."""

    descriptors: Sequence[int] = ()
    names: Sequence[str] = ()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> Inherited:
        """Return what systemd, or what acts like it, has handed to the process ``pid``.

        ``LISTEN_PID`` must be this process, ``LISTEN_FDS`` is how many, ``LISTEN_FDNAMES`` are their names.
        All leave the environment, for the descriptors are nobody else's. Twisted's ``ListenFDs`` is not used
        because it gives none where the names are missing, which systemd-socket-activate leaves out.
        What makes no sense is no descriptor, as for Twisted.
        """
        whose, count, told = (
            environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        )
        meant = whose == str(pid) and re.fullmatch(r"[0-9]{1,4}", count)
        descriptors = range(FIRST_INHERITED, FIRST_INHERITED + (int(count) if meant else 0))
        names = tuple(told.split(":"))
        return cls(descriptors, names if len(names) == len(descriptors) else ())

    def meant_by(self, address: str) -> Sequence[int]:
        """Return the descriptors that ``server.listenAddress`` means, none where it is to be bound.

        An address to bind is of no account where anything was handed over: all of that is listened on. Of
        a name that several sockets share, those of the domain are meant.

        :raises CannotListen: what it names was not handed over.
        """
        wanted = parse_systemd(address)
        if wanted is None:
            return self.descriptors
        named = self._named(wanted)
        if not named:
            raise CannotListen(f"server.listenAddress: {address} was not handed over: {self._what_was()}")
        domains = {descriptor: _domain(descriptor) for descriptor in named}
        found = [descriptor for descriptor in named if domains[descriptor] == wanted.domain]
        if not found:
            raise CannotListen(
                f"server.listenAddress: {address} was handed over as {domains[named[0]]}; "
                f"expected {wanted.domain}: change the domain, or the ListenStream= of the .socket unit"
            )
        return found

    def _named(self, wanted: SystemdSocket) -> Sequence[int]:
        if wanted.index is not None:
            return self.descriptors[wanted.index : wanted.index + 1]
        return [
            descriptor
            for descriptor, name in zip(self.descriptors, self.names, strict=False)
            if name == wanted.name
        ]

    def _what_was(self) -> str:
        if not self.descriptors:
            return "no socket was; start the .socket unit, which starts this service (LISTEN_FDS)"
        if not self.names:
            return f"{len(self.descriptors)} were, index 0 the first, without names (LISTEN_FDNAMES)"
        given = ", ".join(f"index {index} name {name}" for index, name in enumerate(self.names))
        return f"these were: {given} (FileDescriptorName= in the .socket unit)"


def _domain(descriptor: int) -> str:
    """Return the socket's address family as ``server.listenAddress`` says it."""
    found = adopt(descriptor)
    try:
        return found.family.name.removeprefix("AF_")
    finally:
        found.detach()
