"""Every field of the configuration with its YAML path, kind, default and meaning: the one table.

The loader, the schema, the reference and ``check-config`` all walk it.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Any

import attrs
from attrs import frozen

from mcp_oauth2_proxy.config import kinds
from mcp_oauth2_proxy.config.clients import CLIENTS
from mcp_oauth2_proxy.config.kinds import Kind
from mcp_oauth2_proxy.config.model import (
    Auth,
    Cimd,
    Config,
    Consent,
    GateSettings,
    Headers,
    Limits,
    Log,
    Registration,
    Server,
    Store,
    Upstream,
)
from mcp_oauth2_proxy.config.mutations import MUTATIONS

#: What every environment variable of the configuration begins with.
ENVIRONMENT_PREFIX = "MCP_OAUTH2_PROXY_"
#: The sections in the order in which the example shows them, with their models; a section within another
#: has its path and comes after it.
SECTIONS: dict[str, type] = {
    "server": Server,
    "upstream": Upstream,
    "headers": Headers,
    "auth": Auth,
    "auth.cimd": Cimd,
    "gate": GateSettings,
    "limits": Limits,
    "store": Store,
    "log": Log,
}
LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC")
LOG_FORMATS = ("text", "json")

_KINDS: dict[str, Kind] = {
    "server.listenAddress": kinds.LISTEN_ADDRESS,
    "server.workers": kinds.WORKERS,
    "server.readTimeout": kinds.DURATION,
    "server.writeTimeout": kinds.DURATION,
    "server.idleTimeout": kinds.DURATION,
    "server.shutdownGrace": kinds.DURATION,
    "server.maxHeaderBytes": kinds.POSITIVE_SIZE,
    "server.maxHeaderLines": kinds.COUNT,
    "server.maxConnections": kinds.LIMIT,
    "server.maxConnectionsPerAddress": kinds.LIMIT,
    "server.maxBodyBytes": kinds.SIZE,
    "server.trustedProxies": kinds.list_of(kinds.NETWORK),
    "server.corsOrigins": kinds.list_of(kinds.ORIGIN),
    "upstream.url": kinds.UPSTREAM_URL,
    "upstream.connectTimeout": kinds.DURATION,
    "upstream.responseHeaderTimeout": kinds.DURATION,
    "upstream.idleTimeout": kinds.DURATION,
    "upstream.caFile": kinds.CA_FILE,
    "headers.mutations": MUTATIONS,
    "auth.baseUrl": kinds.URL,
    "auth.issuerUrl": kinds.URL,
    "auth.clientId": kinds.TEXT,
    "auth.clientSecret": kinds.SECRET,
    "auth.authorizationServers": kinds.list_of(kinds.URL),
    "auth.discoveryUrl": kinds.URL,
    "auth.caFile": kinds.CA_FILE,
    "auth.scopesSupported": kinds.list_of(kinds.SCOPE),
    "auth.oidcScopes": kinds.list_of(kinds.SCOPE),
    "auth.clientTtl": kinds.DURATION,
    "auth.sessionTtl": kinds.POSITIVE_DURATION,
    "auth.codeTtl": kinds.POSITIVE_DURATION,
    "auth.sealingKeys": kinds.list_of(kinds.SEALING_KEY),
    "auth.audiences": kinds.list_of(kinds.TEXT),
    "auth.requiredScopes": kinds.list_of(kinds.SCOPE),
    "auth.consent": kinds.one_of(tuple(consent.value for consent in Consent), Consent),
    "auth.forwardResource": kinds.FLAG,
    "auth.clients": CLIENTS,
    "auth.registration": kinds.one_of(tuple(policy.value for policy in Registration), Registration),
    "auth.registrationToken": kinds.SECRET,
    "auth.allowedRedirects": kinds.list_of(kinds.REDIRECT_RULE),
    "auth.deniedRedirects": kinds.list_of(kinds.REDIRECT_RULE),
    "auth.cimd.enabled": kinds.FLAG,
    "auth.cimd.allowedHosts": kinds.list_of(kinds.HOST_RULE),
    "auth.cimd.allowedPorts": kinds.list_of(kinds.PORT),
    "auth.cimd.allowedNetworks": kinds.list_of(kinds.NETWORK),
    "auth.cimd.caFile": kinds.CA_FILE,
    "gate.streamGrace": kinds.DURATION,
    "gate.rememberLogouts": kinds.LOGOUT_MEMORY,
    "gate.introspect": kinds.INTROSPECTION,
    "limits.registerPerAddress": kinds.RATE,
    "limits.registerTotal": kinds.RATE,
    "limits.authorizePerAddress": kinds.RATE,
    "limits.authorizeTotal": kinds.RATE,
    "limits.tokenPerAddress": kinds.RATE,
    "limits.tokenTotal": kinds.RATE,
    "store.url": kinds.STORE_URL,
    "store.caFile": kinds.CA_FILE,
    "store.timeout": kinds.POSITIVE_DURATION,
    "log.level": kinds.one_of(LOG_LEVELS),
    "log.format": kinds.one_of(LOG_FORMATS),
}


@frozen
class Field:
    """One setting. ``default`` is meaningless where it is ``required``."""

    section: str
    attribute: str
    key: str
    kind: Kind
    required: bool
    default: Any
    doc: str

    @property
    def path(self) -> str:
        """The YAML path: ``auth.issuerUrl``."""
        return f"{self.section}.{self.key}"

    @property
    def environment(self) -> str:
        """The environment variable: ``MCP_OAUTH2_PROXY_AUTH_ISSUERURL``."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()

    @property
    def file_key(self) -> str | None:
        """The key of the twin that names a file with the secret: ``clientSecretFile``."""
        return self.key + "File" if self.kind.is_secret else None


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def _fields() -> tuple[Field, ...]:
    found = []
    for section, model in SECTIONS.items():
        for attribute in attrs.fields(model):
            if "doc" not in attribute.metadata:  # a section within this one
                continue
            key = _camel(attribute.name)
            found.append(
                Field(
                    section=section,
                    attribute=attribute.name,
                    key=key,
                    kind=_KINDS[f"{section}.{key}"],
                    required=attribute.default is attrs.NOTHING,
                    default=attribute.default,
                    doc=attribute.metadata["doc"],
                )
            )
    return tuple(found)


FIELDS = _fields()
BY_PATH = {field.path: field for field in FIELDS}


def value_of(config: Config, field: Field) -> Any:
    """Return the value that ``config`` has for ``field``."""
    return attrgetter(f"{field.section}.{field.attribute}")(config)


def subsections(section: str) -> list[str]:
    """Return the names of the sections directly in ``section``, of the uppermost ones for an empty text."""
    found = [path.rpartition(".") for path in SECTIONS]
    return [name for parent, _, name in found if parent == section]
