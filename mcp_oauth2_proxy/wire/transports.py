"""TCP connections that hand what is written to the kernel at once, as far as the kernel takes it.

Twisted's own wait for the event loop to say that the socket is writable, which it nearly always is: two
system calls and a turn of the loop for each write.
"""

from __future__ import annotations

from twisted.internet.tcp import Client, Connection, Server


class _WritingAtOnce(Connection):
    def write(self, data: bytes) -> None:
        """See :class:`twisted.internet.interfaces.ITransport`."""
        if (
            self.TLS
            or not self.connected
            or self._writeDisconnected
            or self._tempDataLen
            or self.dataBuffer
            or not data
            or (self.producer is not None and not self.streamingProducer)  # asked again once doWrite has sent
        ):
            super().write(data)
            return
        sent = self.writeSomeData(data)
        if sent == len(data):
            return
        # What is left waits for the socket. A connection that turned out to be lost is told so in its own
        # turn, by the write that fails then: nobody expects to lose it while writing.
        super().write(memoryview(data)[sent:].tobytes() if isinstance(sent, int) else data)


class ServerTransport(_WritingAtOnce, Server):
    """The transport of an accepted connection."""


class ClientTransport(_WritingAtOnce, Client):
    """The transport of a connection that was made here."""
