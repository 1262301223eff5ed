"""The command ``mcp-oauth2-proxy``. What is heavy is imported by the subcommand that needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import get_completion_class

from mcp_oauth2_proxy.config.fields import LOG_FORMATS, LOG_LEVELS
from mcp_oauth2_proxy.config.load import DEFAULT_PATH, Loaded, load_config
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.version import build_facts
from mcp_oauth2_proxy.workers.cpus import worker_count

#: Exit code for a configuration that cannot be used; restarting will not help.
EXIT_CONFIG = 2

_COMMAND = "mcp-oauth2-proxy"
_COMPLETE_VARIABLE = "_MCP_OAUTH2_PROXY_COMPLETE"


def _log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the logging flags, which may stand before and after the subcommand."""
    for name, choices, text in (
        ("--log-format", LOG_FORMATS, "Log format."),
        ("--log-level", LOG_LEVELS, "Log level."),
    ):
        command = click.option(name, type=click.Choice(choices, case_sensitive=False), help=text)(command)
    return command


def _config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        "-c",
        metavar="PATH",
        help=f"Config file path (default: {DEFAULT_PATH}, if it is there).",
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@_log_options
@click.pass_context
def cli(context: click.Context, /, **flags: str | None) -> None:
    """OAuth2 facade, token gate and streaming relay between MCP clients and an MCP server behind Keycloak.

    Every setting of the configuration file can also be an environment variable: auth.issuerUrl is
    MCP_OAUTH2_PROXY_AUTH_ISSUERURL.
    """
    context.obj = flags


def _load(context: click.Context, path: str | None, flags: dict[str, str | None]) -> Loaded:
    """Return the configuration with the flags of group and subcommand on top."""
    overrides: dict[str, str] = {}
    for name, field in (("log_level", "log.level"), ("log_format", "log.format")):
        value = flags.get(name) or (context.obj or {}).get(name)
        if value:
            overrides[field] = value
    return load_config(path, os.environ, overrides)


def _print_problems(error: ConfigError) -> None:
    for problem in error.problems:
        click.echo(f"configuration: {problem}", err=True)


@cli.command()
@_config_option
@_log_options
@click.pass_context
def serve(context: click.Context, /, config: str | None, **flags: str | None) -> None:
    """Run the proxy until SIGTERM or Ctrl-C.

    Exits with 2 and a line for each mistake where the configuration cannot be used.
    """
    try:
        loaded = _load(context, config, flags)
    except ConfigError as error:
        _print_problems(error)
        sys.exit(EXIT_CONFIG)
    from mcp_oauth2_proxy.wire.inherited import Inherited  # noqa: PLC0415
    from mcp_oauth2_proxy.wire.listening import CannotListen  # noqa: PLC0415

    # Before any import of Twisted's endpoints, which take the same variables out of the environment.
    inherited = Inherited.from_environment(os.environ, os.getpid())
    try:
        descriptors = inherited.meant_by(loaded.config.server.listen_address)
    except CannotListen as error:
        click.echo(f"configuration: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    workers = worker_count(loaded.config.server.workers)
    # A wrong configuration is told without Twisted, and what serves is not imported by who supervises.
    if workers > 1:
        from mcp_oauth2_proxy.workers.run import supervise  # noqa: PLC0415

        def reload() -> Loaded:
            return _load(context, config, flags)

        sys.exit(supervise(loaded, workers, reload=reload, descriptors=descriptors))
    from mcp_oauth2_proxy.service import run  # noqa: PLC0415

    sys.exit(run(loaded.config, descriptors=descriptors))


@cli.command("check-config")
@_config_option
@_log_options
@click.pass_context
def check_config(context: click.Context, /, config: str | None, **flags: str | None) -> None:
    """Print the effective configuration, secrets masked, and where each value comes from."""
    from mcp_oauth2_proxy.config.reference import effective, warnings  # noqa: PLC0415

    try:
        loaded = _load(context, config, flags)
    except ConfigError as error:
        _print_problems(error)
        sys.exit(1)
    for line in effective(loaded):
        click.echo(line)
    for line in warnings(loaded.config):
        click.echo(f"warning: {line}", err=True)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from mcp_oauth2_proxy.config.schema import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@cli.command()
def version() -> None:
    """Print the version and what it runs on."""
    for name, value in build_facts():
        click.echo(f"{name + ':':<14}{value}")


@cli.command()
@click.option("--once", is_flag=True, help="Exit after the walk-through instead of staying up.")
def demo(once: bool) -> None:
    """Show the whole flow on this machine: identity provider, MCP server, a client that logs in."""
    try:
        from mcp_oauth2_proxy.demo.command import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mcp_oauth2_proxy":
            raise
        click.echo(f"the demo needs {error.name}: pip install 'mcp-oauth2-proxy[demo]'", err=True)
        sys.exit(1)
    sys.exit(run_demo(once=once))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    For bash: mcp-oauth2-proxy completion bash > ~/.local/share/bash-completion/completions/mcp-oauth2-proxy
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 (the choices are click's own)
    click.echo(script(cli, {}, _COMMAND, _COMPLETE_VARIABLE).source())


def main() -> None:
    """Run the command."""
    cli(prog_name=_COMMAND, complete_var=_COMPLETE_VARIABLE)
