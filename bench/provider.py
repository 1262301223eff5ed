"""``python -m bench.provider PORT``: the demo's identity provider as a process of its own."""

from __future__ import annotations

import sys
from typing import Any

from mcp_oauth2_proxy.demo.realm import Client, RealmDefinition, User

REALM, CLIENT_ID, CLIENT_SECRET = "bench", "mcp-proxy", "only-for-the-bench"
USER = User("ada", "a password", "ada@example.com", "Ada", "Lovelace")


def definition() -> RealmDefinition:
    """Return the realm: Keycloak's lifespans, and rotation of refresh tokens, which costs the most."""
    redirects = ("http://127.0.0.1:*",)
    return RealmDefinition(REALM, clients=(Client(CLIENT_ID, CLIENT_SECRET, redirects),), users=(USER,))


def main(port: int) -> None:
    """Serve until a signal ends it."""
    # The reactor is chosen by importing it.
    from twisted.internet import reactor as chosen  # noqa: PLC0415
    from twisted.web.server import Site  # noqa: PLC0415

    from mcp_oauth2_proxy.demo.idp import KeycloakDouble  # noqa: PLC0415

    reactor: Any = chosen
    site = Site(KeycloakDouble([definition()], clock=reactor, secure_cookies=False))
    reactor.listenTCP(port, site, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
