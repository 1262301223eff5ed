"""The environment: every field by its name in capitals, dots as underscores, letter case ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mcp_oauth2_proxy.config.clients import CLIENTS
from mcp_oauth2_proxy.config.fields import ENVIRONMENT_PREFIX, FIELDS, Field
from mcp_oauth2_proxy.config.mutations import MUTATIONS
from mcp_oauth2_proxy.config.problems import Problem
from mcp_oauth2_proxy.config.suggest import did_you_mean
from mcp_oauth2_proxy.config.yamlfile import Raw

#: The path of the configuration file.
CONFIG_PATH = ENVIRONMENT_PREFIX + "CONFIG"
#: Variables with the prefix that are not settings; the build facts are put into an image when it is made.
_NOT_SETTINGS = (CONFIG_PATH, ENVIRONMENT_PREFIX + "BUILD_REVISION", ENVIRONMENT_PREFIX + "BUILD_DATE")
#: Container orchestrators add variables of this form for a service of our own name; they mean nothing here.
_SERVICE_LINKS = ("SERVICE_HOST", "SERVICE_PORT", "PORT")


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Raw], list[Problem]]:
    """Return what the environment says by field path, and the mistakes in its form."""
    by_name = {field.environment.lower(): (field, False) for field in FIELDS}
    for field in FIELDS:
        if field.file_key is not None:
            by_name[field.environment.lower() + "file"] = (field, True)
            by_name[field.environment.lower() + "_file"] = (field, True)
    found: dict[str, Raw] = {}
    problems: list[Problem] = []
    for name, text in sorted(environ.items()):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name.upper() in _NOT_SETTINGS:
            continue
        known = by_name.get(name.lower())
        if known is None:
            if not name[len(ENVIRONMENT_PREFIX) :].startswith(_SERVICE_LINKS):
                names = [field.environment for field in FIELDS]
                problems.append(Problem(name, f"is not a setting{did_you_mean(name, names)}", "environment"))
            continue
        field, is_file = known
        source = f"environment {name}"
        if field.path in found:
            other = found[field.path].source.removeprefix("environment ")
            problems.append(Problem(name, f"and {other} both set {field.path}; expected one", "environment"))
            continue
        try:
            found[field.path] = Raw(text if is_file else _value(field, text), source, is_file)
        except ValueError as error:
            problems.append(Problem(field.path, str(error), source))
    return found, problems


def _value(field: Field, text: str) -> Any:
    """Return a list for what holds a list: YAML or JSON where it begins like one, else comma-separated."""
    is_document = field.kind in (MUTATIONS, CLIENTS)
    if not field.kind.is_list and not is_document:
        return text
    if not is_document and not text.lstrip().startswith(("[", "- ")):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ValueError("is neither YAML nor JSON") from None
