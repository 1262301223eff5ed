"""A fuzzer, guided by coverage, for the bytes of clients and of upstreams."""
