"""The shell commands of a Markdown document."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$")


def commands(document: str) -> list[str]:
    """Return each command of the ``sh`` blocks in one line: continuations joined, comments dropped."""
    found = []
    for match in _BLOCK.finditer(document):
        joined = match[2].replace("\\\n", " ")
        lines = (_COMMENT.sub("", line).strip() for line in joined.splitlines())
        found += [re.sub(r"\s{2,}", " ", line) for line in lines if line]
    return found
