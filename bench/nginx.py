"""nginx's configurations: the peer that only relays, and the upstream that only answers."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from bench.traffic import ANSWER, CALL, CALL_PATH, GET_PATH

_MAIN = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections {files}; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log {access_log};
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    {body}
}}
"""

#: As nginx's own documentation has a proxy with keep-alive; the header is what every peer here adds.
_PROXY = """\
    upstream mcp {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mcp;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_buffering off;
            proxy_request_buffering off;
            client_max_body_size 0;
            proxy_read_timeout 1h;
        }}
    }}
"""

#: A call whose body did not arrive whole and as it was is refused, so that the load's checks see it.
_UPSTREAM = """\
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = {get_path} {{ return 200 '{answer}'; }}
        location = {call_path} {{
            if ($http_content_length != {call_length}) {{ return 400; }}
            return 200 '{answer}';
        }}
        location / {{ return 404; }}
    }}
"""


def _configuration(folder: Path, body: str, access_log: str, files: int) -> str:
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return _MAIN.format(folder=folder, body=body, access_log=access_log, files=files, user=user)


def proxy_configuration(folder: Path, *, port: int, upstream: int, files: int) -> str:
    """Return the peer's configuration: one worker, no token check, an access log like everybody's."""
    body = _PROXY.format(port=port, upstream=upstream)
    return _configuration(folder, body, f"{folder}/access.log", files)


def upstream_configuration(folder: Path, *, port: int, files: int) -> str:
    """Return the configuration of the upstream with the fixed answers."""
    body = _UPSTREAM.format(
        port=port,
        get_path=GET_PATH.decode(),
        call_path=CALL_PATH.decode(),
        call_length=len(CALL),
        answer=ANSWER.decode(),
    )
    return _configuration(folder, body, "off", files)
