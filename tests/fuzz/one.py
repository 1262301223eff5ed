"""``python -m tests.fuzz.one TARGET [ARGUMENT ...]``: one process of libFuzzer, until it finds something."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=["mcp_oauth2_proxy.wire", "mcp_oauth2_proxy.relay", "tests.smuggling.upstream"]
):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
