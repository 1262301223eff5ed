#!/usr/bin/env python3
"""Write every file that is made from the code: schemas, the README's tables, the lists in ``docs``.

    python -m tools.generate

Tests hold each of them to its source; this brings them up to date after a change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mcp_oauth2_proxy.config.reference import with_reference
from mcp_oauth2_proxy.config.schema import json_schema
from mcp_oauth2_proxy.troubles import TROUBLES
from tools import chart_schema
from tools.capacity import with_capacity

REPOSITORY = Path(__file__).parents[1]
BEGIN, END = "<!-- reasons:begin -->", "<!-- reasons:end -->"


def with_reasons(document: str) -> str:
    """Return ``docs/troubleshooting.md`` with the part between its markers made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = []
    for place, troubles in TROUBLES.items():
        lines += ["", f"## {place}"]
        for code, trouble in troubles.items():
            lines += ["", f"### {code}", "", trouble.what, ""]
            lines += [f"- Person: {trouble.person}", f"- Operator: {trouble.operator}"]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n\n{END}{after}"


def _rewrite(name: str, change: Callable[[str], str]) -> None:
    path = REPOSITORY / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    """Write them all."""
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    _rewrite("docs/config.schema.json", lambda _: schema)
    _rewrite("deploy/helm/values.schema.json", lambda _: chart_schema.rendered())
    _rewrite("README.md", with_reference)
    _rewrite("docs/troubleshooting.md", with_reasons)
    _rewrite("docs/scaling.md", with_capacity)


if __name__ == "__main__":
    main()
