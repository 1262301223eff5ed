"""Reading ``headers.mutations``: each step with just the fields that its action has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mcp_oauth2_proxy.config.kinds import Kind
from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from mcp_oauth2_proxy.config.suggest import did_you_mean

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: Header lines that say where a message ends or whose connection it is: the wire computes them.
NEVER_ADDED = frozenset(
    {
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "http2-settings",
        "host",
    }
)
_FIELDS = {
    Action.REMOVE: {"action", "name"},
    Action.ADD: {"action", "name", "value", "valueFrom"},
    Action.SET_X_FORWARDED: {"action"},
}
_SOURCES = ("requestHeader", "queryParameter", "authorizationHeader", "claim")


def read_mutations(value: object) -> tuple[Mutation, ...]:
    """Return the mutations.

    :raises ValueError: naming the step (counted from 0) and what is wrong with it.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("is not a list; expected steps such as - action: remove")  # noqa: TRY004
    return tuple(_mutation(step, f"[{index}]") for index, step in enumerate(value))


def _mutation(step: object, where: str) -> Mutation:
    if not isinstance(step, Mapping):
        raise ValueError(f"{where} is not a mapping; expected for example action: remove")  # noqa: TRY004
    actions = [action.value for action in Action]
    named = step.get("action")
    if named not in actions:
        near = did_you_mean(str(named), actions)
        raise ValueError(f"{where}.action {named!r} is not accepted; expected {', '.join(actions)}{near}")
    action = Action(named)
    for key in step:
        if key not in _FIELDS[action]:
            accepted = sorted(_FIELDS[action])
            near = did_you_mean(str(key), accepted)
            raise ValueError(f"{where}.{key} is no field of {named}; expected {', '.join(accepted)}{near}")
    if action is Action.SET_X_FORWARDED:
        return Mutation(action)
    name = _header_name(step.get("name"), f"{where}.name")
    if action is Action.REMOVE:
        return Mutation(action, name)
    if name.lower() in NEVER_ADDED or name.lower().startswith("proxy-"):
        raise ValueError(f"{where}.name {name!r} cannot be set: it belongs to the connection")
    if ("value" in step) == ("valueFrom" in step):
        raise ValueError(f"{where} needs either value or valueFrom")
    if "value" in step:
        return Mutation(action, name, value=_header_value(step["value"], f"{where}.value"))
    return Mutation(action, name, value_from=_value_from(step["valueFrom"], f"{where}.valueFrom"))


def _value_from(value: object, where: str) -> ValueFrom:
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in _SOURCES:
        raise ValueError(f"{where} needs exactly one of {', '.join(_SOURCES)}")
    source, argument = next(iter(value.items()))
    if source == "authorizationHeader":
        if argument is not True:
            raise ValueError(f"{where}.authorizationHeader can only be true")
        return ValueFrom(authorization_header=True)
    if not isinstance(argument, str) or not argument:
        raise ValueError(f"{where}.{source} needs a name")
    if source == "requestHeader":
        return ValueFrom(request_header=_header_name(argument, f"{where}.requestHeader"))
    return ValueFrom(query_parameter=argument) if source == "queryParameter" else ValueFrom(claim=argument)


def _header_name(value: object, where: str) -> str:
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError(f"{where} {value!r} is not a header name")
    return value


def _header_value(value: object, where: str) -> str:
    text = "" if value is None else str(value)
    if isinstance(value, list | dict | bool) or not text.isascii() or not text.isprintable():
        raise ValueError(f"{where} is not a header value; expected one line of ASCII text")
    return text


def _show(mutations: tuple[Mutation, ...]) -> str:
    return yaml.safe_dump([_plain(step) for step in mutations], default_flow_style=True, width=10_000).strip()


def _plain(step: Mutation) -> dict[str, Any]:
    plain: dict[str, Any] = {"action": step.action.value}
    if step.name is not None:
        plain["name"] = step.name
    if step.value is not None:
        plain["value"] = step.value
    if step.value_from is not None:
        source = step.value_from
        found = {
            "requestHeader": source.request_header,
            "queryParameter": source.query_parameter,
            "authorizationHeader": source.authorization_header or None,
            "claim": source.claim,
        }
        plain["valueFrom"] = {name: value for name, value in found.items() if value is not None}
    return plain


def _step_schema(
    action: Action, properties: Mapping[str, Any], required: list[str], **more: Any
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"action": {"const": action.value}, **properties},
        "required": ["action", *required],
        "additionalProperties": False,
        **more,
    }


_NAME_SCHEMA = {"type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"}
_SOURCE_SCHEMA = {
    "type": "object",
    "properties": {
        "requestHeader": _NAME_SCHEMA,
        "queryParameter": {"type": "string", "minLength": 1},
        "authorizationHeader": {"const": True},
        "claim": {"type": "string", "minLength": 1},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "array",
    "items": {
        "oneOf": [
            _step_schema(Action.REMOVE, {"name": _NAME_SCHEMA}, ["name"]),
            _step_schema(
                Action.ADD,
                {
                    "name": _NAME_SCHEMA,
                    "value": {"type": ["string", "number"], "pattern": "^[ -~]*$"},
                    "valueFrom": _SOURCE_SCHEMA,
                },
                ["name"],
                oneOf=[{"required": ["value"]}, {"required": ["valueFrom"]}],
            ),
            _step_schema(Action.SET_X_FORWARDED, {}, []),
        ]
    },
}

MUTATIONS = Kind("list of mutations", read_mutations, _SCHEMA, _show)
