"""Which URLs are fetched at all."""

from __future__ import annotations

import re

from attrs import frozen

from mcp_oauth2_proxy.config.model import Cimd

#: Characters of a document's URL; the longest in the field has about 60.
MAX_URL = 1024

#: https, a DNS name, perhaps a port, and a path. No user name, no fragment, no escape that could hide a
#: dot segment, nothing that two parsers read differently.
_URL = re.compile(
    r"https://(?P<host>[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<target>/[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*)"
)
_DOT_SEGMENT = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


@frozen
class DocumentUrl:
    """A URL that may be fetched, in its parts; ``target`` is path and query as they go over the wire."""

    text: str
    host: str
    port: int
    target: str


def is_document_url(client_id: str) -> bool:
    """Return whether ``client_id`` means to be a metadata document's URL."""
    return client_id.startswith("https://")


def read_url(text: str, policy: Cimd) -> DocumentUrl:
    """Return ``text`` as a URL that ``policy`` lets be fetched.

    The rules are those for a client identifier URL (draft-ietf-oauth-client-id-metadata-document section
    3): https, a path, no user name, no fragment, no dot segments. Addresses in place of a name are
    refused too, since nobody can own the name of one.

    :raises ValueError: saying what it "has" or "is".
    """
    found = _URL.fullmatch(text) if len(text) <= MAX_URL else None
    if found is None:
        raise ValueError("is not an https URL with a lower-case host name and a path")
    host, target = found["host"], found["target"]
    if len(host) > 253 or _NUMERIC.fullmatch(host.rpartition(".")[2]):
        raise ValueError("has an address in place of a host name")
    if _DOT_SEGMENT.search(target.partition("?")[0]):
        raise ValueError("has a dot segment in its path")
    port = int(found["port"] or 443)
    if port not in policy.allowed_ports:
        raise ValueError(f"has port {port}, which is not one of auth.cimd.allowedPorts")
    if policy.allowed_hosts and not any(_covers(rule, host) for rule in policy.allowed_hosts):
        raise ValueError(f"is at {host}, which is not one of auth.cimd.allowedHosts")
    return DocumentUrl(text, host, port, target)


def _covers(rule: str, host: str) -> bool:
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule
