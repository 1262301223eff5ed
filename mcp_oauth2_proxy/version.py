"""What is running here: the facts that a bug report needs."""

from __future__ import annotations

import os
import platform
import ssl
from importlib.metadata import PackageNotFoundError, version

#: Set when an image is built, so that a running container can say what it was made of.
REVISION_VARIABLE, DATE_VARIABLE = "MCP_OAUTH2_PROXY_BUILD_REVISION", "MCP_OAUTH2_PROXY_BUILD_DATE"
BUILD_VARIABLES = (REVISION_VARIABLE, DATE_VARIABLE)

_LIBRARIES = ("twisted", "treq", "pyjwt", "cryptography", "httptools", "uvloop")


def package_version() -> str:
    """Return the installed version of this project."""
    try:
        return version("mcp-oauth2-proxy")
    except PackageNotFoundError:
        return "unknown (not installed)"


def build_facts() -> list[tuple[str, str]]:
    """Return what ``mcp-oauth2-proxy version`` prints, a name and a value a line."""
    facts = [
        ("version", package_version()),
        ("revision", os.environ.get(REVISION_VARIABLE) or "unknown"),
        ("built", os.environ.get(DATE_VARIABLE) or "unknown"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", platform.platform()),
        ("openssl", ssl.OPENSSL_VERSION),
    ]
    for library in _LIBRARIES:
        try:
            facts.append((library, version(library)))
        except PackageNotFoundError:
            facts.append((library, "not installed"))
    return facts
