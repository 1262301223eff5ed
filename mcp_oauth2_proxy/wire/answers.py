"""The answers that the wire gives by itself, to what never becomes a request."""

from __future__ import annotations

import json

#: The reason code in the log for bytes that are no request.
MALFORMED = "request_malformed"


def error_body(code: str, description: str, reference: str) -> bytes:
    """Return the JSON body that every error of this proxy has (RFC 6749 section 5.2)."""
    document = {"error": code, "error_description": description, "request_id": reference}
    return json.dumps(document).encode("utf-8")
