"""What a token must satisfy here, taken from the configuration once."""

from __future__ import annotations

from attrs import frozen

from mcp_oauth2_proxy.config.model import Config


@frozen
class Policy:
    """The rules of one proxy.

    ``audiences`` empty means the default rule: ``aud`` names the resource, or ``azp`` is
    ``client_id``, the proxy's own Keycloak client (which needs no mapper in the realm).
    """

    issuer: str
    client_id: str
    base_url: str
    audiences: frozenset[str] = frozenset()
    required_scopes: frozenset[str] = frozenset()

    @classmethod
    def from_config(cls, config: Config) -> Policy:
        """Return the policy that the operator configured."""
        auth = config.auth
        return cls(
            issuer=auth.issuer_url,
            client_id=auth.client_id,
            base_url=auth.base_url,
            audiences=frozenset(auth.audiences),
            required_scopes=frozenset(auth.required_scopes),
        )
