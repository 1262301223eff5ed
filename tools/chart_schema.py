#!/usr/bin/env python3
"""Write ``deploy/helm/values.schema.json``: the chart's own values, and the configuration's published schema.

    python tools/chart_schema.py

What is under ``config:`` is held to the schema that the proxy itself is made from, so that Helm refuses a
mistyped setting before Kubernetes sees it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mcp_oauth2_proxy.config.schema import json_schema

CHART = Path(__file__).parents[1] / "deploy" / "helm"

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_PERCENTAGE = {"type": ["integer", "null"], "minimum": 1}
_AMOUNT = {
    "oneOf": [
        {"type": "null"},
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]+%$"},
    ]
}

#: What a value's default does not say of what it accepts.
_RULES: dict[str, dict[str, Any]] = {
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.repository": {"type": "string", "minLength": 1},
    "clientSecret.key": {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"},
    "replicaCount": _COUNT,
    "revisionHistoryLimit": _COUNT,
    "autoscaling.minReplicas": {"type": "integer", "minimum": 1},
    "autoscaling.maxReplicas": {"type": "integer", "minimum": 1},
    "autoscaling.targetCPUUtilizationPercentage": _PERCENTAGE,
    "autoscaling.targetMemoryUtilizationPercentage": _PERCENTAGE,
    "podDisruptionBudget.enabled": {"type": ["boolean", "null"]},
    "podDisruptionBudget.minAvailable": _AMOUNT,
    "podDisruptionBudget.maxUnavailable": _AMOUNT,
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "preStopSleepSeconds": _COUNT,
    "terminationGracePeriodSeconds": {"type": ["integer", "null"], "minimum": 0},
    "ingress.hosts": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["host"],
            "properties": {
                "host": _TEXT,
                "paths": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["path"],
                        "properties": {
                            "path": {"type": "string", "pattern": "^/"},
                            "pathType": {"enum": ["Prefix", "Exact", "ImplementationSpecific"]},
                        },
                    },
                },
            },
        },
    },
}

#: Objects of the chart whose keys are all known; every other object is Kubernetes' own and passed on.
_CLOSED = frozenset(
    {
        "autoscaling",
        "clientSecret",
        "image",
        "ingress",
        "podDisruptionBudget",
        "service",
        "serviceAccount",
    }
)


def _value_schema(path: str, default: Any) -> dict[str, Any]:
    if path in _RULES:
        return _RULES[path]
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, str):
        return _TEXT
    if isinstance(default, list):
        return {"type": "array"}
    if path not in _CLOSED:
        return {"type": ["object", "null"]}
    properties = {key: _value_schema(f"{path}.{key}", value) for key, value in default.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def values_schema() -> dict[str, Any]:
    """Return the schema of the chart's values, made from ``values.yaml`` and the rules above."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    properties = {key: _value_schema(key, value) for key, value in defaults.items() if key != "config"}
    config = {key: value for key, value in json_schema().items() if key != "$schema"}
    # What a parent chart hands down, whether this one uses it or not.
    properties["global"] = {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the mcp-oauth2-proxy chart",
        "type": "object",
        "additionalProperties": False,
        "properties": {"config": config, **properties},
    }


def rendered() -> str:
    """Return the file's text."""
    return json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(rendered(), encoding="utf-8")
