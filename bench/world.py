"""What every measurement needs around the peers: a private folder, the realm, and an upstream."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from bench import nginx
from bench.children import Child, free_port
from bench.errors import Missing
from bench.machine import Cores, tool
from bench.realm import Realm


@frozen
class World:
    """The surroundings. ``answers`` is the port that answers shortly, ``stub`` that of streams."""

    folder: Path
    cores: Cores
    files: int
    realm: Realm
    token: str
    stub: int
    answers: int
    answered_by: str

    def private(self, name: str) -> Path:
        """Return a new empty folder for one process."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


def accepts(port: int) -> Callable[[], bool]:
    """Return a question: does somebody listen on the port yet?"""

    def ask() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True

    return ask


def _start_answers(stack: ExitStack, folder: Path, cores: Cores, files: int, stub: int) -> tuple[int, str]:
    """Start the fastest upstream there is, so that it takes little of the core."""
    try:
        program = tool("nginx")
    except Missing:
        return stub, "the bench's own stub"
    port = free_port()
    home = folder / "upstream"
    home.mkdir()
    (home / "nginx.conf").write_text(nginx.upstream_configuration(home, port=port, files=files))
    command = [program, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
    child = stack.enter_context(Child(command, core=cores.load, log=home / "output.log"))
    child.wait_until(accepts(port))
    return port, "nginx, return 200"


@contextmanager
def surroundings(cores: Cores, files: int) -> Iterator[World]:
    """Start everything around the peers; all of it is stopped and removed at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-oauth2-proxy-bench-")))
        stub = free_port()
        realm = Realm.create(f"http://127.0.0.1:{stub}/realms/bench")
        documents = folder / "documents.json"
        documents.write_text(json.dumps(realm.documents()))
        command = [sys.executable, "-m", "bench.stub", str(stub), str(documents)]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"}
        child = Child(command, core=cores.load, log=folder / "stub.log", environment=environment)
        stack.enter_context(child).wait_until(accepts(stub))
        answers, answered_by = _start_answers(stack, folder, cores, files, stub)
        yield World(
            folder=folder,
            cores=cores,
            files=files,
            realm=realm,
            token=realm.token(),
            stub=stub,
            answers=answers,
            answered_by=answered_by,
        )
