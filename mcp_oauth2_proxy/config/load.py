"""From file, environment and flags to one validated :class:`Config`, or to every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from mcp_oauth2_proxy.config.environment import CONFIG_PATH, read_environment
from mcp_oauth2_proxy.config.fields import BY_PATH, FIELDS, SECTIONS, Field
from mcp_oauth2_proxy.config.model import Config, Registration, Secret
from mcp_oauth2_proxy.config.problems import ConfigError, Problem
from mcp_oauth2_proxy.config.yamlfile import MAX_FILE, Raw, read_yaml

#: Read where no path is given; that it is not there is then no mistake.
DEFAULT_PATH = "config.yaml"


@frozen(repr=False)
class Said:
    """What the operator said, beside the environment: the file as it was read, and the flags by field path.

    ``text`` is ``None`` where there is no file. Secrets may be in it.
    """

    name: str
    text: bytes | None
    overrides: Mapping[str, str]


@frozen
class Loaded:
    """The configuration, by field path where each value came from, and what it was made of."""

    config: Config
    sources: Mapping[str, str]
    said: Said


def load_config(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> Loaded:
    """Return the configuration: flags before environment before file before defaults.

    ``path`` is the file, ``None`` where nobody named one. ``overrides`` are command-line flags by
    field path.

    :raises ConfigError: with all mistakes.
    """
    named = path or environ.get(CONFIG_PATH)
    text = _read(named or DEFAULT_PATH, required=named is not None)
    return load_said(Said(named or DEFAULT_PATH, text, overrides or {}), environ)


def load_said(said: Said, environ: Mapping[str, str]) -> Loaded:
    """Return the configuration that ``said`` and the environment make, as :func:`load_config` does."""
    problems: list[Problem] = []
    raw: dict[str, Raw] = {}
    if said.text is not None:
        from_file, mistakes = read_yaml(said.text, said.name, environ)
        raw.update(from_file)
        problems += mistakes
    from_environment, mistakes = read_environment(environ)
    raw.update(from_environment)
    problems += mistakes
    for field_path, value in said.overrides.items():
        raw[field_path] = Raw(value, "--" + field_path.replace(".", "-"))
    values = _parse(raw, problems)
    if problems:
        raise ConfigError(problems)
    sources = {field.path: raw[field.path].source if field.path in raw else "default" for field in FIELDS}
    config = _build(values)
    problems += _contradictions(config)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, sources, said)


def _read(path: str, *, required: bool) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if not required:
            return None
        raise ConfigError([Problem(path, "is not there; expected a configuration file")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([Problem(repr(path), f"cannot be read: {reason}")]) from None


def _parse(raw: Mapping[str, Raw], problems: list[Problem]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    mentioned = {problem.path for problem in problems}
    for field in FIELDS:
        said = raw.get(field.path)
        if said is None or said.value is None:
            if field.required and field.path not in mentioned:
                problems.append(Problem(field.path, f"is required; set it, or {field.environment}"))
            continue
        try:
            value = _from_file(field, said.value) if said.file else said.value
            read = field.kind.read(value)
            if said.file and isinstance(read, Secret):
                read = evolve(read, path=str(said.value))
            values[field.path] = read
        except ValueError as error:
            problems.append(Problem(field.path + ("File" if said.file else ""), str(error), said.source))
    return values


def _from_file(field: Field, path: object) -> Any:
    """Return a secret from its file, without the line break that editors and ``kubectl`` leave at its end."""
    if not isinstance(path, str) or not path:
        raise ValueError("is not the path of a file")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path!r} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ValueError(f"{path!r} is empty")
    if field.kind.is_list:
        return [line.strip() for line in text.splitlines() if line.strip()]
    return text.rstrip("\r\n")


def _contradictions(config: Config) -> list[Problem]:
    """Return what each is fine alone and is a mistake together."""
    auth = config.auth
    found = []
    if auth.registration is Registration.TOKEN and auth.registration_token is None:
        found.append(Problem("auth.registrationToken", "is required where auth.registration is token"))
    if auth.registration_token is not None and auth.registration is not Registration.TOKEN:
        found.append(Problem("auth.registrationToken", "has no meaning unless auth.registration is token"))
    return found


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, value in values.items():
        field = BY_PATH[path]
        sections[field.section][field.attribute] = value
    auth = sections["auth"]
    if not auth.get("authorization_servers"):
        auth["authorization_servers"] = (auth["base_url"],)
    for path, model in reversed(SECTIONS.items()):  # what is within another section first
        parent, _, name = path.rpartition(".")
        built = model(**sections.pop(path))
        sections.setdefault(parent, {})[name] = built
    return Config(**sections[""])
