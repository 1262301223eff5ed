"""Every client by its ``client_id``: the operator's, those with a document, the registered ones."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.cimd.fetch import Fetched
from mcp_oauth2_proxy.cimd.library import DocumentRefused, DocumentUnavailable, Library
from mcp_oauth2_proxy.cimd.pinned import PINNED
from mcp_oauth2_proxy.cimd.urls import is_document_url, read_url
from mcp_oauth2_proxy.config.model import Auth, StaticClient
from mcp_oauth2_proxy.facade.clients import (
    BASIC,
    GRANTS,
    NONE,
    Client,
    ClientKeys,
    open_client_id,
    secret_matches,
)
from mcp_oauth2_proxy.facade.copies import StoredCopies
from mcp_oauth2_proxy.facade.documents import read_document, read_key_set
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError, unavailable
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.gate.keys import KeySet

#: Seconds within which a client's keys are not asked for twice because of a key id that is not among them.
KEYS_AGAIN = 60.0

#: :meth:`mcp_oauth2_proxy.cimd.fetch.Fetcher.get`.
Fetch = Callable[[str], Awaitable[Fetched]]


class Directory:
    """The clients that there are. ``fetch`` gets a stranger's JSON document, ``vault`` keeps copies."""

    def __init__(
        self, auth: Auth, *, sealer: Sealer, vault: Vault, clock: IReactorTime, fetch: Fetch
    ) -> None:
        self._auth = auth
        self._sealer = sealer
        self._clock = clock
        self._known = {client.client_id: client for client in auth.clients}

        def copies(kind: str) -> StoredCopies:
            return StoredCopies(vault, kind=kind, policy=auth.cimd)

        self._documents = Library(
            fetch=fetch, read=read_document, clock=clock, copies=copies("document"), pinned=PINNED
        )
        self._key_sets = Library(
            fetch=fetch, read=read_key_set, clock=clock, copies=copies("keys"), pinned={}
        )

    async def find(self, client_id: str, *, status: int) -> Client:
        """Return the client, or raise ``invalid_client`` with ``status``, or 503 where that may pass."""
        known = self._known.get(client_id)
        if known is not None:
            return _by_operator(known)
        if is_document_url(client_id):
            return await self._described(client_id, status)
        try:
            return open_client_id(client_id, self._sealer, self._auth.client_ttl)
        except SealError as error:
            reason = Reason.CLIENT_EXPIRED if error.expired else Reason.CLIENT_UNKNOWN
            what = "has expired" if error.expired else "is not known here"
            raise OAuthError(
                "invalid_client",
                status,
                f"the client's registration {what}",
                reason=reason,
                detail=str(error),
            ) from None

    async def _described(self, url: str, status: int) -> Client:
        """Return the client that its metadata document describes.

        What went wrong is for the log: whoever chose the URL must not learn how this network answers.
        """
        if not self._auth.cimd.enabled:
            raise _refused("are not accepted here", status, "auth.cimd.enabled is false")
        try:
            # Copies too are for those URLs only that may be fetched: the operator's lists come first.
            read_url(url, self._auth.cimd)
            return await self._documents.get(url)
        except ValueError as error:
            raise _refused("of this address are not accepted", status, f"{url[:200]!r} {error}") from None
        except DocumentRefused as error:
            raise _refused("must be found at its address and hold", status, str(error)) from None
        except DocumentUnavailable as error:
            raise _unavailable(str(error)) from None

    async def keys(self, keys: ClientKeys, key_id: str | None) -> KeySet:
        """Return a client's keys, fetched again where ``key_id`` is not among them, at most once a minute."""
        if keys.uri is None:
            return KeySet.from_jwks(keys.jwks or {"keys": []}, of_client=True)
        try:
            read_url(keys.uri, self._auth.cimd)
            found = await self._key_sets.get(keys.uri)
            if key_id is not None and key_id not in found:
                found = await self._key_sets.get(keys.uri, newer_than=self._clock.seconds() - KEYS_AGAIN)
        except ValueError as error:
            raise _unavailable(f"{keys.uri[:200]!r} {error}") from None
        except (DocumentRefused, DocumentUnavailable) as error:
            raise _unavailable(str(error)) from None
        return found

    def secret_matches(self, client_id: str, secret: str) -> bool:
        """Return whether ``secret`` is the client's; in constant time."""
        known = self._known.get(client_id)
        if known is None:
            return secret_matches(client_id, secret, self._sealer)
        if known.client_secret is None:
            return False
        return hmac.compare_digest(
            known.client_secret.reveal().encode("utf-8"), secret.encode("utf-8", "surrogatepass")
        )


def _by_operator(known: StaticClient) -> Client:
    return Client(
        client_id=known.client_id,
        redirect_uris=known.redirect_uris,
        auth_method=NONE if known.client_secret is None else BASIC,
        grants=GRANTS,
        name=known.name or known.client_id,
        by_operator=True,
    )


def _refused(what: str, status: int, detail: str) -> OAuthError:
    return OAuthError(
        "invalid_client",
        status,
        f"client ID metadata documents {what}",
        reason=Reason.CLIENT_DOCUMENT,
        detail=detail,
    )


def _unavailable(detail: str) -> OAuthError:
    return unavailable(
        "the client's metadata document cannot be fetched at the moment",
        Reason.CLIENT_DOCUMENT_DOWN,
        detail,
    )
