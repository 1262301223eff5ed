"""The contract on the embedded identity provider."""

from __future__ import annotations

from typing import Any

from tests.keycloak_contract import contract
from tests.keycloak_contract.harness import ContractCase
from tests.support.double import RunningDouble
from tests.support.reactor import global_reactor


class _OnTheDouble(ContractCase):
    """Serves a double of its own for each test."""

    def setUp(self, **settings: Any) -> None:
        self.provider = RunningDouble(global_reactor(), **settings)
        self.addCleanup(self.provider.stop)
        self.issuer = self.provider.issuer()

    def rotate_keys(self) -> None:
        self.provider.rotate_keys()

    async def announce_logouts(self, url: str) -> None:
        self.provider.announce_logouts(url)

    async def end_session(self, sid: str) -> None:
        self.provider.end_session(sid)

    async def allow_reuse(self) -> None:
        self.setUp(refresh_token_max_reuse=1)


class DoublePublished(_OnTheDouble, contract.Published):
    """What the double publishes."""


class DoubleLoggingIn(_OnTheDouble, contract.LoggingIn):
    """How a person logs in at the double."""


class DoubleTokens(_OnTheDouble, contract.Tokens):
    """What tokens of the double do."""


class DoubleLoggingOut(_OnTheDouble, contract.LoggingOut):
    """What the double says when a session ends."""
