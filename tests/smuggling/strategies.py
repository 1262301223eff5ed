"""Messages put together from good and bad parts, and good ones changed a little."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

line_ends = st.sampled_from(
    [b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\0\r\n", b""]
)
spaces = st.sampled_from([b" "] * 20 + [b"", b"  ", b"\t", b"\x0b", b" \t ", b"\xa0"])
names = st.sampled_from(
    [
        b"Host",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Transfer-Encoding",
        b"Connection",
        b"Upgrade",
        b"Expect",
        b"Authorization",
        b"X",
        b"Content_Length",
        b"Transfer-Encoding ",
        b" X",
        b"",
        b"X\0",
        b"Keep-Alive",
        b"Trailer",
        b"TE",
        b"Date",
    ]
)
values = st.sampled_from(
    [
        b"h",
        b"h:80",
        b"chunked",
        b"Chunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"identity",
        b"xchunked",
        b"0",
        b"5",
        b"05",
        b"+5",
        b"-5",
        b"5, 5",
        b"0x5",
        b"5 5",
        b"18446744073709551621",
        b"close",
        b"keep-alive",
        b"upgrade",
        b"Upgrade, close",
        b"h2c",
        b"100-continue",
        b"a\tb",
        b"a\x0bb",
        b"\xff",
        b"",
        b"a\nb",
        b"a\rb",
    ]
)
bodies = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"g\r\n",
        b"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\n",
    ]
)
methods = st.sampled_from([b"GET", b"POST", b"POST", b"HEAD", b"OPTIONS", b"PRI", b"SOURCE", b"get", b"X"])
targets = st.sampled_from(
    [b"/", b"/mcp?a=b", b"*", b"http://h/", b"http://h", b"h:80", b"/#", b"", b"/a b", b"/\x80"]
)
versions = st.sampled_from(
    [b"HTTP/1.1"] * 12 + [b"HTTP/1.0", b"HTTP/1.10", b"HTTP/2.0", b"RTSP/1.1", b"HTTP/0.9"]
)
statuses = st.sampled_from(
    [b"200"] * 8
    + [b"100", b"103", b"101", b"204", b"304", b"401", b"000", b"099", b"20", b"2000", b"999", b"-20"]
)


@st.composite
def heads(draw: Any, start: st.SearchStrategy[bytes]) -> bytes:
    """A start line, some headers, and perhaps a body."""
    lines = [draw(start), draw(line_ends)]
    if draw(st.booleans()):
        lines += [b"Host: h\r\n"]
    for _ in range(draw(st.integers(0, 3))):
        lines += [draw(names), b":", draw(spaces), draw(values), draw(line_ends)]
    return b"".join([*lines, draw(line_ends), draw(bodies)])


request_lines = st.tuples(methods, spaces, targets, spaces, versions).map(b"".join)
status_lines = st.tuples(
    versions, spaces, statuses, st.sampled_from([b" OK", b" ", b"", b" \0", b" \xff"])
).map(b"".join)
pipelines = st.lists(heads(request_lines), min_size=1, max_size=3).map(b"".join)
streams = st.lists(heads(status_lines), min_size=1, max_size=3).map(b"".join)


@st.composite
def mutated(draw: Any, seeds: list[bytes]) -> bytes:
    """A message of the corpus, with a few bytes changed, doubled, moved or lost."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        piece = draw(
            st.sampled_from(
                [
                    b"",
                    b"\r",
                    b"\n",
                    b"\r\n",
                    b" ",
                    b"\t",
                    b":",
                    b"\0",
                    b"0",
                    b"1",
                    b",",
                    b";",
                    b"\x0b",
                    b"\xff",
                ]
            )
            | st.binary(min_size=1, max_size=2)
            | st.just(bytes(data[at:end]) * 2)
        )
        data[at:end] = piece
    return bytes(data)
