"""The JSON Schema (draft 2020-12) of the configuration file, for editors."""

from __future__ import annotations

from typing import Any

import attrs

from mcp_oauth2_proxy.config.clients import CLIENTS
from mcp_oauth2_proxy.config.fields import FIELDS, SECTIONS, Field, subsections
from mcp_oauth2_proxy.config.mutations import MUTATIONS

#: ``${NAME}`` may stand for any scalar.
_VARIABLE = {"type": "string", "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}"}


def json_schema() -> dict[str, Any]:
    """Return the schema, made from the same table that the loader reads by."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcp-oauth2-proxy",
        "type": "object",
        "properties": {section: _section(section) for section in subsections("")},
        "additionalProperties": False,
    }


def _section(section: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in FIELDS:
        if field.section != section:
            continue
        properties[field.key] = _field(field)
        if field.file_key is not None:
            properties[field.file_key] = {
                "type": "string",
                "description": f"file that holds {field.key}"
                + (", one a line" if field.kind.is_list else ""),
            }
    for name in subsections(section):
        properties[name] = _section(f"{section}.{name}")
    # A required field may also come from the environment, so that the file cannot be held to it.
    return {
        "type": ["object", "null"],
        "description": (SECTIONS[section].__doc__ or "").strip(),
        "properties": properties,
        "additionalProperties": False,
    }


def _field(field: Field) -> dict[str, Any]:
    kind = field.kind
    if kind.is_list:
        schema: dict[str, Any] = {"type": "array", "items": {"anyOf": [kind.schema["items"], _VARIABLE]}}
    elif kind in (MUTATIONS, CLIENTS):
        schema = dict(kind.schema)
    else:
        schema = {"anyOf": [dict(kind.schema), _VARIABLE]}
    schema["description"] = field.doc + (" (required)" if field.required else "")
    if field.default is not attrs.NOTHING and field.default is not None and not kind.is_secret:
        schema["default"] = _plain(field)
    return schema


def _plain(field: Field) -> Any:
    default = field.default
    if isinstance(default, tuple):
        return list(default)
    return default if isinstance(default, bool | int) else field.kind.show(default)
