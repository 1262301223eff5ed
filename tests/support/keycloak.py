"""A real Keycloak for the tests: started once per test process, shared, and gone with it.

Where this machine cannot have one (no Java, no Maven) the tests that need it are skipped with the reason;
with ``REQUIRE_KEYCLOAK=1`` in the environment they fail instead.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import frozen

from tests.support.program import REPOSITORY, Program, clean_environment, free_port, wait_until

_FETCH = REPOSITORY / "tools" / "fetch_keycloak.py"
_REALMS = REPOSITORY / "tests" / "e2e"
#: Seconds: 7 on an idle machine, and more than a minute when everything else runs beside it.
_START_TIMEOUT = 180
_ADMIN = "admin"


@frozen
class Credentials:
    """What the realm files of ``tests/e2e`` define; the same in both realms."""

    client_id: str = "mcp-proxy"
    client_secret: str = "mcp-proxy-secret"
    #: A client like the first, with a mapper that puts it into the ``aud`` of its access tokens.
    audience_client_id: str = "audience-client"
    other_client_id: str = "other-client"
    other_client_secret: str = "other-client-secret"
    username: str = "alice"
    password: str = "wonderland"
    realm: str = "mcp"
    other_realm: str = "elsewhere"


CREDENTIALS = Credentials()


class RealKeycloak:
    """A running Keycloak with the realms of ``tests/e2e``."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def issuer(self, realm: str = CREDENTIALS.realm) -> str:
        """Return the realm's issuer."""
        return f"{self.base_url}/realms/{realm}"

    def _call(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
        request = urllib.request.Request(self.base_url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    def token(self, realm: str, **form: str) -> dict[str, Any]:
        """Return the token endpoint's answer to ``form``."""
        path = f"/realms/{realm}/protocol/openid-connect/token"
        answer: dict[str, Any] = self._call("POST", path, {}, urllib.parse.urlencode(form).encode())
        return answer

    def _as_admin(self) -> dict[str, str]:
        """Return headers for the admin API."""
        admin = self.token(
            "master", grant_type="password", client_id="admin-cli", username=_ADMIN, password=_ADMIN
        )
        return {
            "Authorization": f"Bearer {admin['access_token']}",
            "Content-Type": "application/json",
        }

    def change_realm(self, realm: str = CREDENTIALS.realm, **settings: Any) -> None:
        """Change settings of the realm by the admin API."""
        self._call("PUT", f"/admin/realms/{realm}", self._as_admin(), json.dumps(settings).encode())

    def announce_logouts(self, url: str) -> None:
        """Tell ``url`` when a session of the proxy's client ends; empty: tell nobody."""
        headers, clients = self._as_admin(), f"/admin/realms/{CREDENTIALS.realm}/clients"
        (client,) = self._call("GET", f"{clients}?clientId={CREDENTIALS.client_id}", headers, None)
        client["attributes"] |= {
            "backchannel.logout.url": url,
            "backchannel.logout.session.required": "true",
        }
        self._call("PUT", f"{clients}/{client['id']}", headers, json.dumps(client).encode())

    def end_session(self, sid: str) -> None:
        """End a session by the admin API."""
        path = f"/admin/realms/{CREDENTIALS.realm}/sessions/{sid}"
        self._call("DELETE", path, self._as_admin(), None)

    def rotate_keys(self, realm: str = CREDENTIALS.realm) -> None:
        """Give the realm a new signing key by the admin API; the one before stays published."""
        headers = self._as_admin()
        kind = "org.keycloak.keys.KeyProvider"
        path = f"/admin/realms/{realm}"
        providers = self._call("GET", f"{path}/components?type={kind}", headers, None)
        highest = max(int(one["config"].get("priority", ["0"])[0]) for one in providers)
        provider = {
            "name": f"rotation-{highest + 1}",
            "providerId": "rsa-generated",
            "providerType": kind,
            "parentId": self._call("GET", path, headers, None)["id"],
            "config": {"priority": [str(highest + 1)], "algorithm": ["RS256"], "keySize": ["2048"]},
        }
        self._call("POST", f"{path}/components", headers, json.dumps(provider).encode())


_running: RealKeycloak | None = None
_reason: str | None = None


def real_keycloak() -> RealKeycloak:
    """Return the shared Keycloak, starting it at the first call. Raises SkipTest where there can be none."""
    global _running, _reason  # noqa: PLW0603 (one Keycloak for the whole process is the point)
    if _running is None and _reason is None:
        try:
            _running = _start(_installed())
        except SkipTest as skip:
            _reason = str(skip)
    if _running is not None:
        return _running
    if os.environ.get("REQUIRE_KEYCLOAK") == "1":
        raise AssertionError(f"REQUIRE_KEYCLOAK=1, but {_reason}")
    raise SkipTest(f"no real Keycloak: {_reason}")


def _installed() -> Path:
    """Return the cached installation, making it first; it is also where ``make e2e`` gets it from."""
    done = subprocess.run([sys.executable, str(_FETCH)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SkipTest(done.stderr.strip())
    return Path(done.stdout.strip())


def _own_copy(home: Path) -> Path:
    """Return a copy of ``home`` for this process: hard links, so it is quick and takes no room."""
    for old in home.parent.glob("run-*"):
        if not Path(f"/proc/{old.name.split('-')[1]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    copy = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=home.parent))
    shutil.copytree(home, copy / "keycloak", copy_function=os.link)
    return copy


def _start(home: Path) -> RealKeycloak:
    copy = _own_copy(home)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    imports = copy / "keycloak" / "data" / "import"
    imports.mkdir(parents=True)
    for realm in _REALMS.glob("realm-*.json"):
        shutil.copy(realm, imports)
    port, management = free_port(), free_port()
    program = Program(
        [
            str(copy / "keycloak" / "bin" / "kc.sh"),
            *("start", "--optimized", "--import-realm", "--http-enabled=true", "--hostname-strict=false"),
            *("--http-host=127.0.0.1", f"--http-port={port}", f"--http-management-port={management}"),
            "--cache=local",
        ],
        environment=clean_environment(
            KC_BOOTSTRAP_ADMIN_USERNAME=_ADMIN,
            KC_BOOTSTRAP_ADMIN_PASSWORD=_ADMIN,
            JAVA_OPTS_KC_HEAP="-Xms64m -Xmx512m",
            # The first compiler is enough for a server that lives for minutes, and it starts faster.
            JAVA_OPTS_APPEND="-XX:TieredStopAtLevel=1",
        ),
    )
    atexit.register(program.kill)
    health = f"http://127.0.0.1:{management}/health/ready"
    wait_until(lambda: _answers(health), "Keycloak becomes ready", _START_TIMEOUT, program)
    return RealKeycloak(f"http://127.0.0.1:{port}")


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False
