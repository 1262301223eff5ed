"""The bytes that every peer relays: fixed, so that each answer can be checked against them."""

from __future__ import annotations

from hashlib import sha256

GET_PATH = b"/mcp"
CALL_PATH = b"/mcp/call"
STREAM_PATH = b"/mcp/stream"

#: A tool call as an MCP client sends it.
CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":3},'
    b'"_meta":{"progressToken":7}}}'
)
#: Its result: 100 bytes of JSON.
ANSWER = (
    b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"2 plus 3: 5"}],"isError":false}}'
)
#: The same call answered as most MCP servers do it: by an event stream that has the result and ends.
STREAMED_PATH = b"/mcp/streamed"
STREAMED = b"event: message\ndata: %b\n\n" % ANSWER
EVENTS_PATH = b"/mcp/events"
BULK_PATH = b"/mcp/bulk"

FIRST_EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"here"}}\n\n'

#: Events of one stream, one each ``EVENT_PACE`` seconds, so that no two travel together.
EVENTS = 200
EVENT_PACE = 0.005

#: A bulk body is this block over and over: nothing in it repeats before its end.
BULK_BLOCK = b"".join(sha256(number.to_bytes(4, "big")).digest() for number in range(32_768))
BULK_BLOCKS = 256
BULK_BYTES = len(BULK_BLOCK) * BULK_BLOCKS


def event(number: int) -> bytes:
    """Return one event of a stream; each differs, so that a lost or repeated one is seen."""
    return (
        b'id: %d\ndata: {"jsonrpc":"2.0","method":"notifications/progress",'
        b'"params":{"progressToken":7,"progress":%d,"total":%d}}\n\n' % (number, number, EVENTS)
    )


class BulkCheck:
    """Compares a bulk body, as it arrives, with what it has to be."""

    def __init__(self) -> None:
        self.received = 0
        self.right = True

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while view:
            at = self.received % len(BULK_BLOCK)
            piece = view[: len(BULK_BLOCK) - at]
            self.right = self.right and piece == memoryview(BULK_BLOCK)[at : at + len(piece)]
            self.received += len(piece)
            view = view[len(piece) :]

    def whole(self) -> bool:
        """Return whether all of it came, and nothing else."""
        return self.right and self.received == BULK_BYTES
