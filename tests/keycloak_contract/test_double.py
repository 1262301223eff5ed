"""The contract on the embedded identity provider."""

from __future__ import annotations

from tests.keycloak_contract import contract
from tests.keycloak_contract.harness import ContractCase
from tests.support.double import OnTheDouble


class _OnTheDouble(OnTheDouble, ContractCase):
    """The realm under test is the double's."""

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
