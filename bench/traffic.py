"""The bytes that every peer relays: fixed, so that each answer can be checked against them."""

from __future__ import annotations

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
FIRST_EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"here"}}\n\n'
