"""The answers that the wire gives by itself, to what never becomes a request."""

from __future__ import annotations

import json


def error_body(code: str, description: str) -> bytes:
    """Return the JSON body that every error of this proxy has (RFC 6749 section 5.2)."""
    return json.dumps({"error": code, "error_description": description}).encode("utf-8")
