"""``python -m tests.fuzz.one TARGET [ARGUMENT ...]``: one process of libFuzzer, until it finds something."""

from __future__ import annotations

import shlex
import sys

import atheris

with atheris.instrument_imports(
    include=["mcp_oauth2_proxy.wire", "mcp_oauth2_proxy.relay", "tests.smuggling.upstream"]
):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    # While it merges libFuzzer has a shell start its first argument, again and again.
    itself = shlex.join([sys.executable, "-m", "tests.fuzz.one", sys.argv[1]])
    atheris.Setup([itself, *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
