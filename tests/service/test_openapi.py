"""The description of the endpoints: kept equal to the tree, and the source of whatever a tool can make up."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import yaml
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.app import facade_tree, well_known_tree
from tests.facade.world import World
from tests.service.scene import Scene
from tests.support.program import REPOSITORY, clean_environment

DESCRIPTION = REPOSITORY / "docs" / "openapi.yaml"
_UNLIMITED = {
    name + kind: "0" for name in ("register", "authorize", "token") for kind in ("PerAddress", "Total")
}


#: Seconds; a few dozen where nothing else runs.
_PATIENCE = 600


class Description(TestCase):
    """docs/openapi.yaml."""

    timeout = _PATIENCE + 40

    def setUp(self) -> None:
        self.paths = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))["paths"]

    def test_every_endpoint(self) -> None:
        """The described paths and methods are those of the Resource tree."""
        facade = World().facade
        tree = {
            f"/oauth/{name.decode()}": resource for name, resource in facade_tree(facade).children.items()
        }
        for name, resource in well_known_tree(facade).children.items():
            tree[f"/.well-known/{name.decode()}"] = resource
        described = {path: item for path, item in self.paths.items() if path not in ("/healthz", "/readyz")}
        self.assertEqual(set(described), set(tree))
        for path, item in described.items():
            self.assertEqual({method.upper() for method in item}, set(tree[path].methods), path)

    def test_whatever_comes(self) -> None:
        """Thousands of requests, good ones and bad ones: each answer is described, and none is a 5xx."""
        scene = Scene()
        self.addCleanup(scene.stop)
        proxy = scene.start(limits=_UNLIMITED)
        self.addCleanup(proxy.stop)
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [
                    *(
                        sys.executable,
                        "-c",
                        "from schemathesis.cli import schemathesis; schemathesis()",
                        "run",
                    ),
                    *(str(DESCRIPTION), "--url", proxy.base_url, "--no-color", "--max-examples", "200"),
                    *("--generation-deterministic", "--seed", "1"),
                    *("--phases", "examples,coverage,fuzzing", "--mode", "all"),
                    "--checks",
                    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                ],
                cwd=directory,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
        self.assertEqual(proxy.health(), (200, "ok"))
        self.assertNotIn("Traceback", proxy.output)
        self.assertGreater(proxy.output.count('"message": "request"'), 1000, "hardly anything was asked")
