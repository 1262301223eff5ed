"""Asking Keycloak about a token that is good in all else, for who wants that (``gate.introspect``)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mcp_oauth2_proxy.gate.gate import bearer_token
from mcp_oauth2_proxy.gate.model import Identity, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import inactive, may_be_introspected
from mcp_oauth2_proxy.keycloak.introspection import Introspection


class Asker:
    """What :class:`ProxyResource` does between its own verdict and the relay."""

    _log = Logger()

    def __init__(self, introspection: Introspection, policy: Policy) -> None:
        self._introspection = introspection
        self._policy = policy
        self._has_advised = False

    def ask(self, authorization: bytes | None, identity: Identity) -> Deferred[Refusal | None]:
        """Return why the token of the header, which ``identity`` was read from, is inactive, or ``None``.

        Fails with :exc:`KeycloakUnavailable`: then nobody knows.
        """
        token = bearer_token((authorization or b"",))
        assert isinstance(token, bytes)  # noqa: S101 (an identity was read from it)
        asked = self._introspection.is_active(token.decode("ascii"))
        return asked.addCallback(self._judge, identity)

    def _judge(self, active: bool, identity: Identity) -> Refusal | None:
        if active:
            return None
        if not self._has_advised and not may_be_introspected(identity, self._policy):
            self._has_advised = True
            self._log.error(
                "gate.introspect: Keycloak calls a good token inactive, for its aud does not name "
                "{client_id}; add a mapper of type Audience to that client in Keycloak, with Included Client "
                "Audience {client_id}, for access tokens only",
                client_id=self._policy.client_id,
            )
        return inactive(identity, self._policy)
