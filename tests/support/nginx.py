"""A real nginx in front of replicas, as docs/scaling.md has it; gone with the test process.

Where this machine has no nginx the tests that need it are skipped; with ``REQUIRE_NGINX=1`` in the
environment they fail instead.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from tests.support.program import Program, free_port, wait_until

_START_TIMEOUT = 20
#: By what a replica is chosen where tokens stick to theirs.
BALANCE = "hash $affinity consistent;"
CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    keepalive_requests 1000000;
    map $http_authorization $affinity {{
        "" $request_id;
        default $http_authorization;
    }}
    upstream replicas {{
        {balance}
{servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_connect_timeout 2s;
            proxy_read_timeout 1h;
            client_max_body_size 0;
        }}
    }}
}}
"""


def nginx() -> str:
    """Return the path of ``nginx``. Raises SkipTest where there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("REQUIRE_NGINX") == "1":
            raise AssertionError("REQUIRE_NGINX=1, but there is no nginx")
        raise SkipTest("no nginx on this machine")
    return found


class Nginx:
    """Listens on ``port`` and shares what comes among ``replicas``, ports of 127.0.0.1.

    ``sticky``: what carries the same token goes to the same replica, while that is there.
    """

    def __init__(self, replicas: Sequence[int], port: int | None = None, *, sticky: bool = False) -> None:
        self.port = port or free_port()
        self._directory = tempfile.TemporaryDirectory()
        folder = Path(self._directory.name)
        path = folder / "nginx.conf"
        # max_fails=0: one that failed is asked again at once, so that never both are shunned.
        servers = "\n".join(f"        server 127.0.0.1:{replica} max_fails=0;" for replica in replicas)
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        path.write_text(
            CONFIGURATION.format(
                folder=folder, user=user, servers=servers, port=self.port, balance=BALANCE if sticky else ""
            ),
            encoding="utf-8",
        )
        command = [nginx(), "-p", str(folder), "-c", str(path), "-e", str(folder / "error.log")]
        self.program = Program(command, directory=folder)
        self._log = folder / "error.log"
        wait_until(self._listens, "nginx listens", _START_TIMEOUT, self.program)

    @property
    def errors(self) -> str:
        """Return what it has complained about."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def stop(self) -> None:
        """End it and remove its directory."""
        self.program.kill()
        self._directory.cleanup()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False
