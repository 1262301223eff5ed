"""What the configuration's tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import Loaded, load_config
from mcp_oauth2_proxy.config.problems import ConfigError


class ConfigCase(SynchronousTestCase):
    """Loads configurations from a directory of its own."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def load(
        self,
        yaml: str | bytes | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> Loaded:
        """Load a file with this content, or none."""
        path = self.write("config.yaml", yaml) if yaml is not None else None
        return load_config(path, environ or {}, overrides)

    def mistakes(
        self,
        yaml: str | bytes | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Return the lines that the operator reads, without the directory."""
        error = self.assertRaises(ConfigError, self.load, yaml, environ, overrides)
        return [str(problem).replace(f"{self.directory}/", "") for problem in error.problems]
