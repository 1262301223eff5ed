"""Why a request that is not OAuth was not relayed, or not to its end."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """The value is the reason code in the log; those of the gate are beside it."""

    TARGET = "request_target_malformed"
    KEYS = "keys_unavailable"
    INTROSPECTION = "introspection_unavailable"
    TOO_LARGE = "request_too_large"
    BODY_INCOMPLETE = "request_body_incomplete"
    TIMEOUT = "gateway_timeout"
    UNREACHABLE = "bad_gateway"
    TRUNCATED = "upstream_truncated"
    STREAM_EXPIRED = "stream_token_expired"
