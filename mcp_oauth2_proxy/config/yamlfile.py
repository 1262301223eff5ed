"""The YAML file, with the line of each field kept so that a mistake can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from attrs import frozen

from mcp_oauth2_proxy.config.fields import BY_PATH, FIELDS, subsections
from mcp_oauth2_proxy.config.problems import ConfigError, Problem
from mcp_oauth2_proxy.config.suggest import did_you_mean

#: Largest configuration file in bytes; a thousand header mutations are a tenth of it.
MAX_FILE = 1024 * 1024
#: Deepest nesting that is read; the configuration needs five.
MAX_DEPTH = 20

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")


@frozen
class Raw:
    """A value as it was said, and where. ``file`` marks the path of a file that holds the value."""

    value: Any
    source: str
    file: bool = False


def read_yaml(text: bytes, name: str, environ: Mapping[str, str]) -> tuple[dict[str, Raw], list[Problem]]:
    """Return what the file says by field path, and the mistakes in its form.

    :raises ConfigError: it is no YAML at all, so that nothing in it can be trusted.
    """
    node = _compose(text, name)
    if node is None:
        return {}, []
    reader = _Reader(name, environ)
    reader.document(node)
    return reader.found, reader.problems


def _compose(text: bytes, name: str) -> yaml.Node | None:
    if len(text) > MAX_FILE:
        raise ConfigError([Problem(name, f"is larger than {MAX_FILE} bytes")])
    try:
        decoded = text.decode("utf-8-sig")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(decoded, yaml.SafeLoader)):
            raise ConfigError([Problem(name, "uses a YAML alias (*name); write the value out")])
        return yaml.compose(decoded, yaml.SafeLoader)  # type: ignore[no-any-return, unused-ignore]
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(name, f"is not UTF-8 (byte {error.start})")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([Problem(where, f"is not YAML: {error.problem or error.context}")]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([Problem(name, f"is not YAML: {str(error).splitlines()[0][:200]}")]) from None


class _Reader:
    """Walks the YAML nodes once."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self._name = name
        self._environ = environ
        self._constructor = yaml.SafeLoader("")
        self.found: dict[str, Raw] = {}
        self.problems: list[Problem] = []

    def document(self, node: yaml.Node) -> None:
        for section, value in self._entries(node, "", subsections("")):
            self._section(section, value)

    def _section(self, section: str, node: yaml.Node) -> None:
        inner = subsections(section)
        keys = [field.key for field in FIELDS if field.section == section]
        keys += [field.file_key for field in FIELDS if field.section == section and field.file_key]
        for key, item in self._entries(node, section + ".", [*keys, *inner]):
            if key in inner:
                self._section(f"{section}.{key}", item)
            else:
                self._field(section, key, item)

    def _entries(self, node: yaml.Node, prefix: str, accepted: list[str]) -> list[tuple[str, yaml.Node]]:
        """Return the known keys of a mapping node; every other one is a mistake."""
        path = prefix.rstrip(".") or "the file"
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return []
        if not isinstance(node, yaml.MappingNode):
            self._problem(path, f"is not a mapping; expected {', '.join(accepted)}", node)
            return []
        entries: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            if key in entries:
                self._problem(prefix + key, "is there twice", key_node)
            elif key not in accepted:
                self._problem(prefix + key, f"is not a setting{did_you_mean(key, accepted)}", key_node)
            else:
                entries[key] = value
        return list(entries.items())

    def _field(self, section: str, key: str, node: yaml.Node) -> None:
        path, is_file = f"{section}.{key}", False
        if path not in BY_PATH:
            path, is_file = path.removesuffix("File"), True
        source = self._where(node)
        if path in self.found:
            self.problems.append(Problem(path, f"and {path}File are both there; expected one", source))
            return
        try:
            value = self._plain(node, f"{section}.{key}", 0)
        except ValueError as error:
            self._problem(f"{section}.{key}", str(error), node)
            return
        self.found[path] = Raw(value, source, is_file)

    def _plain(self, node: yaml.Node, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, path, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            plain: dict[Any, Any] = {}
            for key_node, item in node.value:
                key = self._plain(key_node, path, MAX_DEPTH)
                if not isinstance(key, str):
                    raise ValueError("has a key that is not text")  # noqa: TRY004
                if key in plain:
                    raise ValueError(f"has {key} twice")
                plain[key] = self._plain(item, path, depth + 1)
            return plain
        if node.tag == "tag:yaml.org,2002:str":
            return self._substituted(node.value)
        # What YAML takes for a number of another base, or for a time, is what was written.
        if node.tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"):
            return self._constructor.construct_object(node)
        return str(node.value)

    def _substituted(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "$"
            if name not in self._environ:
                raise ValueError(f"names the environment variable {name}, which is not set")
            return self._environ[name]

        return _VARIABLE.sub(value, text)

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _problem(self, path: str, message: str, node: yaml.Node) -> None:
        self.problems.append(Problem(path, message, self._where(node)))
