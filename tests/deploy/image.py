"""Builds and runs the image without a Docker engine: each step of the Dockerfile, in a Debian root.

The base image's place is taken by a Debian root of ``mmdebstrap`` with Python and, in ``/usr/local`` as in
the official image, pip. It is kept in ``${XDG_CACHE_HOME:-~/.cache}/mcp-oauth2-proxy/``. COPY copies, RUN
runs in a chroot with a mount namespace of its own, and the finished root is run read-only, as the user,
with the environment and the command that the file sets, without capabilities.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from tests.deploy.dockerfile import Instruction, Stage, parse_file, substitute
from tests.deploy.tools import missing
from tests.support.builds import cache
from tests.support.program import REPOSITORY

_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
#: Counts up whenever what is in the cached root changes.
_ROOT_VERSION = 1
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
#: What a builder hands to its containers as well, so that they reach a package index as the host does.
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
_HOST_VARIABLES = (
    "PIP_INDEX_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
#: Seconds for one step on a busy machine.
_STEP_TIMEOUT = 300


@define
class Image:
    """A root directory and what the Dockerfile says about running it."""

    root: Path
    environment: dict[str, str] = field(factory=lambda: {"PATH": _PATH})
    labels: dict[str, str] = field(factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(factory=list)
    command: list[str] = field(factory=list)
    ports: list[str] = field(factory=list)
    stop_signal: str = ""


def _script(root: Path, mounts: Mapping[str, str], *, read_only: bool) -> str:
    """Return the shell lines that make ``root`` a container's file system in a fresh mount namespace."""
    quoted = shlex.quote(str(root))
    lines = ["set -e", f"mount --bind {quoted} {quoted}"]
    for source, target in {"/dev": "/dev", "/proc": "/proc", **mounts}.items():
        lines.append(f"mount --rbind {shlex.quote(source)} {shlex.quote(str(root) + target)}")
    if read_only:
        lines.append(f"mount -o remount,ro,bind {quoted}")
    return "\n".join(lines)


def _chroot(image: Image, *command: str) -> str:
    variables = [f"{name}={value}" for name, value in image.environment.items()]
    words = ["env", "-i", "-C", image.workdir, *variables, *command]
    user, _, group = image.user.partition(":")
    if user != "0":
        drop = ("--clear-groups", "--no-new-privs", "--bounding-set=-all")
        words = ["setpriv", "--reuid", user, "--regid", group, *drop, *words]
    return "exec " + shlex.join(["chroot", str(image.root), *words])


def run_command(image: Image, config: Path, *arguments: str, entrypoint: str | None = None) -> list[str]:
    """Return what ``docker run --read-only --cap-drop ALL -v config:/app/config.yaml IMAGE ...`` runs."""
    mount_point = image.root / "app" / "config.yaml"
    mount_point.touch()
    words = [entrypoint] if entrypoint else image.entrypoint
    words = [*words, *(arguments or (() if entrypoint else image.command))]
    script = _script(image.root, {str(config): "/app/config.yaml"}, read_only=True)
    return ["unshare", "--mount", "sh", "-c", f"{script}\n{_chroot(image, *words)}"]


def _run_step(image: Image, shell: str, mounts: Mapping[str, str] | None = None) -> None:
    for name in _HOST_FILES:
        if Path(name).is_file():
            target = Path(f"{image.root}{name}")
            target.unlink(missing_ok=True)
            shutil.copyfile(name, target)
    passed = {name: os.environ[name] for name in _HOST_VARIABLES if name in os.environ}
    if Path(_HOST_FILES[-1]).is_file():
        passed["PIP_CERT"] = _HOST_FILES[-1]
    builder = Image(image.root, {**image.environment, **passed}, workdir=image.workdir)
    script = (
        f"{_script(image.root, mounts or {}, read_only=False)}\n{_chroot(builder, '/bin/sh', '-c', shell)}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=_STEP_TIMEOUT,
    )
    if done.returncode != 0:
        raise AssertionError(f"RUN {shell}\nexit {done.returncode}\n{done.stdout}{done.stderr}")


@functools.cache
def why_not() -> str | None:
    """Return why this machine cannot build the image, or ``None`` where it can."""
    if os.geteuid() != 0:
        return "the image is built in a chroot, which only root may do"
    for program in ("mmdebstrap", "unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"no {program} here: the image is built in a Debian root"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/", "/"], capture_output=True, check=False
    )
    return None if tried.returncode == 0 else "this machine lets nobody mount, which building the image needs"


def base_root() -> Path:
    """Return the cached root that stands for ``python:*-slim``, made first where there is none."""
    if reason := why_not():
        missing(reason)
    root = cache() / f"debian-{_SUITE}-python-{_ROOT_VERSION}"
    root.parent.mkdir(parents=True, exist_ok=True)
    # Of two test runs at once, the second waits for the first one's root.
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return root if root.is_dir() else _make_base_root(root)


def _make_base_root(root: Path) -> Path:
    """Make the root, under its name only once it is complete."""
    with tempfile.TemporaryDirectory(prefix="debian-", dir=root.parent) as scratch:
        directory = Path(scratch)
        options = ("--quiet", "--variant=essential", "--mode=root", f"--include={_PACKAGES}")
        made = subprocess.run(
            ["mmdebstrap", *options, _SUITE, str(directory / "root")],
            capture_output=True,
            text=True,
            check=False,
            timeout=_STEP_TIMEOUT,
        )
        if made.returncode != 0:
            missing(f"no Debian root could be made here: {made.stderr.strip().splitlines()[-1]}")
        _run_step(
            Image(directory / "root"),
            "python3 -m venv /tmp/venv && /tmp/venv/bin/pip --python /usr/bin/python3 install --quiet "
            "--disable-pip-version-check --root-user-action=ignore --break-system-packages pip && "
            "rm -rf /tmp/venv",
        )
        (directory / "root").rename(root)
    return root


def _copy(step: Instruction, source_root: Path, image: Image) -> None:
    *sources, target = step.words()
    destination = Path(f"{image.root}{target}")
    for source in sources:
        path = Path(f"{source_root}/{source}")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "dropin.cache")
            keep_all = "from" in step.flags
            shutil.copytree(path, destination, symlinks=True, ignore=None if keep_all else ignored)
        else:
            shutil.copy2(path, destination / path.name if target.endswith("/") else destination)


def _carry_out(step: Instruction, image: Image, roots: Mapping[str, Path], variables: dict[str, str]) -> None:
    value = step.value
    if step.name == "ARG":
        for name, default in step.pairs().items():
            variables.setdefault(name, default)
    elif step.name == "RUN":
        mounts = {}
        if "mount" in step.flags:
            options = dict(item.split("=") for item in step.flags["mount"].split(","))
            assert options["type"] == "cache", step
            kept = cache() / "pip"
            kept.mkdir(parents=True, exist_ok=True)
            Path(f"{image.root}{options['target']}").mkdir(parents=True, exist_ok=True)
            mounts[str(kept)] = options["target"]
        _run_step(image, value, mounts)
    elif step.name == "COPY":
        _copy(step, roots[step.flags["from"]] if "from" in step.flags else REPOSITORY, image)
    elif step.name == "WORKDIR":
        Path(f"{image.root}{value}").mkdir(parents=True, exist_ok=True)
        image.workdir = value
    elif step.name in {"ENV", "LABEL"}:
        found = {name: substitute(text, variables) for name, text in step.pairs().items()}
        (image.environment if step.name == "ENV" else image.labels).update(found)
    elif step.name == "EXPOSE":
        image.ports.append(value)
    elif step.name in {"ENTRYPOINT", "CMD"}:
        setattr(image, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[step.name], step.words())
    else:
        setattr(image, {"USER": "user", "STOPSIGNAL": "stop_signal"}[step.name], value)


def build(directory: Path, **arguments: str) -> Image:
    """Carry out the Dockerfile in ``directory``, with build arguments; return its last stage."""
    stages: list[Stage] = parse_file(REPOSITORY / "Dockerfile")
    base = base_root()
    roots: dict[str, Path] = {}
    image = Image(directory)
    for number, stage in enumerate(stages):
        root = directory / (stage.name or f"stage-{number}")
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
        roots[stage.name or str(number)] = root
        image = Image(root)
        variables = dict(arguments)
        for step in stage.steps:
            _carry_out(step, image, roots, variables)
    return image
