"""Every URL the proxy answers, and which resource answers it."""

from __future__ import annotations

from urllib.parse import urlsplit

from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.resources import (
    AuthorizationServerMetadata,
    AuthorizeResource,
    CallbackResource,
    ConsentResource,
    LogoutResource,
    OAuthNotFound,
    ProtectedResourceMetadata,
    RegisterResource,
    RevokeResource,
    TokenResource,
)
from mcp_oauth2_proxy.wire.request import StreamingRequest

WELL_KNOWN = b".well-known"


def facade_tree(facade: Facade) -> Resource:
    """Return ``/oauth/*``; what is not named here is a JSON 404."""
    oauth = OAuthNotFound(facade.cors)
    oauth.putChild(b"register", RegisterResource(facade))
    oauth.putChild(b"authorize", AuthorizeResource(facade))
    oauth.putChild(b"consent", ConsentResource(facade))
    oauth.putChild(b"callback", CallbackResource(facade))
    oauth.putChild(b"token", TokenResource(facade))
    oauth.putChild(b"revoke", RevokeResource(facade))
    oauth.putChild(b"backchannel-logout", LogoutResource(facade))
    return oauth


def well_known_tree(facade: Facade) -> Resource:
    """Return ``/.well-known/*``: each document at the root and in its path-suffixed form (RFC 8414, 9728)."""
    well_known = OAuthNotFound(facade.cors)
    well_known.putChild(b"oauth-protected-resource", ProtectedResourceMetadata(facade))
    well_known.putChild(b"oauth-authorization-server", AuthorizationServerMetadata(facade))
    well_known.putChild(b"openid-configuration", AuthorizationServerMetadata(facade))
    return well_known


@implementer(IResource)
class Root(Resource):
    """The tree's root: the proxy's own URLs, and the relay for everything else.

    A base URL with a path (``https://host/mcp``) puts the whole tree under that path too. A request
    that arrives with the path has it removed here, so that nobody below has to know; one that
    arrives without it comes from an ingress that has removed it already.
    """

    def __init__(self, base_url: str, *, well_known: Resource, relay: Resource) -> None:
        super().__init__()
        self._base = [segment.encode() for segment in urlsplit(base_url).path.split("/") if segment]
        self._well_known = well_known
        self._relay = relay

    def getChildWithDefault(self, path: bytes, request: StreamingRequest) -> IResource:
        """Route one request; ``path`` is its first segment, the rest is in ``request.postpath``."""
        rest = request.postpath or []
        segments = [path, *rest]
        if self._base and segments[: len(self._base)] == self._base:
            segments = segments[len(self._base) :] or [b""]
            request.target = without_segments(request.target, len(self._base))
            request.postpath = segments[1:]
        # Some clients ask for {path}/.well-known/…: those documents are public and never the upstream's.
        if WELL_KNOWN in segments and segments[0] != WELL_KNOWN:
            request.postpath = segments[segments.index(WELL_KNOWN) + 1 :]
            return self._well_known
        child = self.children.get(segments[0])
        return child if child is not None else self._relay


def without_segments(target: bytes, count: int) -> bytes:
    """Return the raw request target without its first ``count`` path segments, query kept."""
    path, mark, query = target.partition(b"?")
    rest = path.split(b"/", count + 1)[count + 1 :]
    return b"/" + b"".join(rest) + mark + query


def build_root(
    base_url: str, *, facade: Facade, relay: Resource, healthz: Resource, readyz: Resource
) -> Root:
    """Return the whole tree."""
    well_known = well_known_tree(facade)
    root = Root(base_url, well_known=well_known, relay=relay)
    root.putChild(b"healthz", healthz)
    root.putChild(b"readyz", readyz)
    root.putChild(WELL_KNOWN, well_known)
    root.putChild(b"oauth", facade_tree(facade))
    return root
