"""The published JSON Schema and the reference say what the loader does."""

from __future__ import annotations

import json
from typing import Any

import yaml as pyyaml
from jsonschema import Draft202012Validator

from mcp_oauth2_proxy.config.fields import FIELDS
from mcp_oauth2_proxy.config.reference import with_reference
from mcp_oauth2_proxy.config.schema import json_schema
from tests.config.case import ConfigCase
from tests.config.examples import FULL, MINIMAL
from tests.config.test_mistakes import WRONG
from tests.support.program import REPOSITORY

#: Mistakes that only the loader can see: they are about files, addresses and URLs as such.
BEYOND_THE_SCHEMA = (
    "10/0s",
    "introspect: 500ms",
    "introspect: 6m",
    "caFile",
    "trustedProxies",
    "u:p@h",
    "/?q",
    "h:port",
    "'[::1'",
    "99999",
    "Content-Length",
    "Proxy-",
    "rememberLogouts",
)


class Schema(ConfigCase):
    """For editors."""

    def setUp(self) -> None:
        super().setUp()
        Draft202012Validator.check_schema(json_schema())
        self.validator = Draft202012Validator(json_schema())

    def complaints(self, document: Any) -> list[str]:
        return [error.message for error in self.validator.iter_errors(document)]

    def test_examples(self) -> None:
        """The documented examples are valid, and so are variables in the place of any scalar."""
        for yaml in (MINIMAL, FULL):
            self.assertEqual(self.complaints(pyyaml.safe_load(yaml)), [])
        variables = {
            "server": {"readTimeout": "${T}"},
            "auth": {"forwardResource": "${F}", "audiences": ["${A}"]},
        }
        self.assertEqual(self.complaints(variables), [])

    def test_mistakes(self) -> None:
        """An editor marks the mistakes that need no look at the machine."""
        marked = 0
        for section, text, _ in WRONG:
            if any(sign in text for sign in BEYOND_THE_SCHEMA) or text == "{}":
                continue
            self.assertTrue(self.complaints({section: pyyaml.safe_load(text)}), text)
            marked += 1
        self.assertGreater(marked, 15)

    def test_every_field_is_described(self) -> None:
        """Each field has its meaning and, where it has one, its default."""
        for field in FIELDS:
            schema = json_schema()
            for step in field.path.split("."):
                schema = schema["properties"][step]
            self.assertTrue(schema["description"].startswith(field.doc))

    def test_the_file_is_current(self) -> None:
        """docs/config.schema.json is what ``mcp-oauth2-proxy schema`` prints."""
        published = (REPOSITORY / "docs" / "config.schema.json").read_text(encoding="utf-8")
        self.assertEqual(json.loads(published), json_schema())

    def test_the_reference_is_current(self) -> None:
        """The table of the README is made from the fields that the loader knows."""
        readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
        self.assertEqual(readme, with_reference(readme))
