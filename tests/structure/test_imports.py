"""The house keeps its shape: imports run one way, from composition down to pure code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = "mcp_oauth2_proxy"
ROOT = Path(__file__).parents[2] / PACKAGE

_TOOLS = {"troubles", "cimd", "gate", "keycloak", "stores", "ops", "wire", "config"}
#: What each place may import from within the project, besides itself.
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "version": set(),
    "troubles": set(),
    "wire": {"config"},
    "stores": {"config"},
    "ops": {"wire", "config"},
    "gate": {"config"},
    "keycloak": {"gate", "wire", "config"},
    "cimd": {"wire", "config"},
    "facade": _TOOLS,
    "relay": _TOOLS,
    "app": _TOOLS | {"facade", "relay"},
    "service": _TOOLS | {"app", "facade", "relay", "version"},
    "workers": {"service", "ops", "wire", "config"},
    "tap": {"workers", "service", "ops", "wire", "config"},
    "demo": _TOOLS | {"service", "version"},
    "cli": {"workers", "service", "wire", "demo", "config", "ops", "version"},
    "__main__": {"cli"},
    "__init__": set(),
}
#: Places that decide and never do: no event loop, no network.
PURE = {"config", "gate", "troubles", "version"}
#: Modules of the other places that hold rules: what they decide can be read and tested without Twisted.
PURE_MODULES = {
    "cimd": {"addresses", "freshness", "known", "pinned", "urls"},
    "facade": {
        "assertions",
        "authorization",
        "clientauth",
        "clients",
        "cookies",
        "documents",
        "errors",
        "grants",
        "logout",
        "metadata",
        "names",
        "parameters",
        "redirects",
        "registration",
        "revocation",
        "scopes",
        "sealing",
        "token_endpoint",
    },
    "keycloak": {"discovery", "idtoken", "logouttoken", "tokens"},
    "ops": {"cors", "limits", "redaction"},
    "relay": {"headers", "legacy_sse", "reasons", "target", "values"},
    "wire": {"chunks", "head", "limits", "names"},
    "workers": {"cpus", "crew", "messages", "shares"},
}
IMPURE_LIBRARIES = {
    "twisted",
    "treq",
    "zope",
    "socket",
    "asyncio",
    "httptools",
    "uvloop",
    "sqlite3",
    "redis",
    "threading",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield each module of the package with the place of the house it lives in."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).with_suffix("").parts[0], path


def imported(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Yield each imported module's full name, its line, and whether the import is at module level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top_level = {id(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            top_level -= {id(node) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in top_level
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno, id(node) in top_level


class ImportsRunOneWay(SynchronousTestCase):
    """A change that turns an arrow round fails here, with the line to look at."""

    def test_places_import_only_downwards(self) -> None:
        """Every import inside the project follows the table above."""
        wrong = []
        for place, path in modules():
            for name, line, _ in imported(path):
                parts = name.split(".")
                if parts[0] != PACKAGE or len(parts) < 2:
                    continue
                if parts[1] != place and parts[1] not in ALLOWED[place]:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} {place} -> {parts[1]}")
        self.assertEqual(wrong, [])

    def test_pure_places_touch_no_network(self) -> None:
        """Configuration, gate and every other rule can be read and tested without an event loop."""
        wrong = [
            f"{path.relative_to(ROOT)}:{line} imports {name}"
            for place, path in modules()
            if place in PURE or path.stem in PURE_MODULES.get(place, ())
            for name, line, _ in imported(path)
            if name.split(".")[0] in IMPURE_LIBRARIES
        ]
        self.assertEqual(wrong, [])

    def test_no_module_takes_the_global_reactor(self) -> None:
        """The reactor is handed in; importing it at module level would install one by accident."""
        wrong = [
            f"{path.relative_to(ROOT)}:{line}"
            for _, path in modules()
            for name, line, top in imported(path)
            if top and name == "twisted.internet.reactor"
        ]
        self.assertEqual(wrong, [])

    def test_the_table_names_every_place(self) -> None:
        """A new folder or module at the top must say where it stands."""
        self.assertEqual({place for place, _ in modules()} - set(ALLOWED), set())

    def test_modules_are_read_in_one_sitting(self) -> None:
        """No module is longer than 400 lines."""
        long = {
            str(path.relative_to(ROOT)): count
            for _, path in modules()
            if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
        }
        self.assertEqual(long, {})
