"""What the proxy's own cookies are called: the facade sets them, the relay keeps them from the upstream."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import urlsplit


def cookie_prefix(base_url: str) -> str:
    """Return how the names of all cookies of the proxy at ``base_url`` begin.

    ``__Host-`` on https (RFC 6265bis section 4.1.3.2). Browsers keep one jar for all ports and paths
    of a host, so the names carry a tag of the base URL.
    """
    sha = hashlib.sha256()
    for part in (b"cookies", base_url.rstrip("/").encode("utf-8", "surrogatepass")):
        sha.update(len(part).to_bytes(8, "big") + part)
    tag = base64.urlsafe_b64encode(sha.digest()).decode("ascii")[:6]
    return f"{'__Host-' if urlsplit(base_url).scheme == 'https' else ''}mcp-{tag}-"
