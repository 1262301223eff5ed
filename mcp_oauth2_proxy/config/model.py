"""The configuration as immutable values: every field, its default and its meaning, in one place.

Names are the YAML names in snake_case. Durations are seconds as ``float`` (0 = no limit), sizes are
bytes (0 = no limit), and URLs carry no trailing slash. Secrets are :class:`Secret`, which does not
show itself in a ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from attrs import field, frozen


@frozen(repr=False)
class Secret:
    """A string that must not reach a log, a ``repr`` or a page; :meth:`reveal` is the only way out."""

    _value: str
    #: The file that it came from.
    path: str | None = None

    def reveal(self) -> str:
        """Return the secret itself as it was at the start, for the one place that derives from it."""
        return self._value

    def current(self) -> str:
        """Return the secret as its file says it now, so that it can be replaced without a restart.

        A file that is gone, empty or being written leaves it as it was.
        """
        if self.path is None:
            return self._value
        try:
            return Path(self.path).read_text(encoding="utf-8").strip() or self._value
        except (OSError, UnicodeDecodeError):
            return self._value

    def __repr__(self) -> str:
        return "Secret('***')"


class Consent(Enum):
    """When the consent page is shown (the defence against the confused deputy)."""

    ALWAYS = "always"
    REMEMBER = "remember"
    NEVER = "never"


class Registration(Enum):
    """Who may register a client (RFC 7591)."""

    OPEN = "open"
    TOKEN = "token"  # noqa: S105 (a policy's name)
    OFF = "off"


class Action(Enum):
    """What a header mutation does."""

    REMOVE = "remove"
    ADD = "add"
    SET_X_FORWARDED = "set-x-forwarded"


@frozen
class ValueFrom:
    """Where an ``add`` mutation takes its value from; exactly one attribute is set."""

    request_header: str | None = None
    query_parameter: str | None = None
    authorization_header: bool = False
    claim: str | None = None


@frozen
class Mutation:
    """One step of ``headers.mutations``."""

    action: Action
    name: str | None = None
    value: str | None = None
    value_from: ValueFrom | None = None


@frozen
class StaticClient:
    """One entry of ``auth.clients``: a client that the operator registered; public without a secret."""

    client_id: str
    redirect_uris: tuple[str, ...]
    client_secret: Secret | None = None
    name: str | None = None


@frozen
class Rate:
    """So many requests in so many seconds, at once or spread; ``count`` 0 is no limit."""

    count: int
    seconds: float


class StoreKind(Enum):
    """What remembers: this process, a file of this machine, or Redis in one of its three forms."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    REDIS = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@frozen
class StoreUrl:
    """``store.url``, read. Neither ``repr`` nor ``str`` shows credentials."""

    kind: StoreKind = StoreKind.MEMORY
    #: The file of SQLite, and whether each change waits for the disk: it need not where the file ends with
    #: its processes.
    path: str = ""
    durable: bool = True
    #: Redis: its nodes, or the Sentinels that know them, as host and port.
    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: Secret | None = None
    #: The name by which Sentinels know the primary.
    service: str = ""
    database: int = 0
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: Secret | None = None

    def __str__(self) -> str:
        if self.kind is StoreKind.SQLITE:
            return f"sqlite://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        known = "***@" if self.password else ""
        path = "".join(f"/{part}" for part in (self.service, self.database) if part)
        scheme = self.kind.value.replace("redis", "rediss") if self.tls else self.kind.value
        return f"{scheme}://{known}{hosts}{path}"


#: ``server.workers`` where the machine decides.
AUTO = 0


def setting(doc: str, /, **options: Any) -> Any:
    """Declare a field of the configuration; ``doc`` becomes its row in the reference and the schema."""
    metadata: Mapping[str, Any] = {"doc": doc}
    return field(metadata=metadata, **options)


@frozen
class Server:
    """``server.*``: how the proxy listens, and the bounds of one client connection."""

    listen_address: str = setting(
        "HTTP listen address, or a socket that systemd hands over: systemd:domain=INET6:index=0 "
        "(docs/deployment.md)",
        default=":8080",
    )
    workers: int = setting(
        "processes that share the socket, each with a CPU of its own: a number, or auto for as many as there "
        "are CPUs (docs/deployment.md)",
        default=1,
    )
    read_timeout: float = setting(
        "HTTP read timeout: for a request's head, and for each step of its body", default=30.0
    )
    write_timeout: float = setting("HTTP write timeout (0 for SSE)", default=0.0)
    idle_timeout: float = setting("HTTP idle timeout", default=120.0)
    shutdown_grace: float = setting(
        "how long running requests may go on after SIGTERM before they are cut", default=10.0
    )
    max_header_bytes: int = setting("largest request head, in bytes", default=64 * 1024)
    max_header_lines: int = setting("most header lines of one request", default=200)
    max_connections: int = setting("most client connections at once (0: no limit)", default=10_000)
    max_connections_per_address: int = setting(
        "most of them from one client address, trusted proxies excepted (0: no limit)", default=5_000
    )
    max_body_bytes: int = setting(
        "largest relayed request body, in bytes (0: the upstream decides)", default=0
    )
    trusted_proxies: tuple[str, ...] = setting(
        "addresses or CIDR networks whose Forwarded and X-Forwarded-* headers are believed", default=()
    )
    cors_origins: tuple[str, ...] = setting(
        "origins whose pages may call this proxy (CORS): `*` is every one, `[]` none",
        default=("*",),
    )


@frozen
class Upstream:
    """``upstream.*``: the MCP server behind the proxy."""

    url: str = setting("Upstream MCP server URL (absolute)")
    connect_timeout: float = setting("how long a connection to the upstream may take", default=10.0)
    response_header_timeout: float = setting(
        "how long the upstream may take to begin its answer, or to go on while it takes no more of "
        "the request (0: no limit)",
        default=300.0,
    )
    idle_timeout: float = setting(
        "how long an unused upstream connection is kept; stay below the upstream's own keep-alive, "
        "unless it says that in a Keep-Alive header",
        default=4.0,
    )
    ca_file: str | None = setting("PEM file of the CA that signs the upstream's certificate", default=None)


@frozen
class Headers:
    """``headers.*``: what is changed on the way to the upstream."""

    mutations: tuple[Mutation, ...] = setting("Ordered list of header mutations", default=())


@frozen
class Cimd:
    """``auth.cimd.*``: clients whose ``client_id`` is the https URL of a metadata document."""

    enabled: bool = setting("accept client ID metadata documents", default=True)
    allowed_hosts: tuple[str, ...] = setting(
        "hosts that documents may come from, `*.` for those below one (default: every public one)", default=()
    )
    allowed_ports: tuple[int, ...] = setting("ports that documents may come from", default=(443,))
    allowed_networks: tuple[str, ...] = setting(
        "internal networks (CIDR) that documents may come from; public addresses always may", default=()
    )
    ca_file: str | None = setting(
        "PEM file of the CA that signs the documents' hosts, in place of the public ones", default=None
    )


@frozen
class Auth:
    """``auth.*``: the facade, the gate and the Keycloak realm behind them."""

    base_url: str = setting("Proxy's public base URL (OAuth2 issuer)")
    issuer_url: str = setting("Keycloak realm URL for OIDC discovery")
    client_id: str = setting("Keycloak client ID")
    client_secret: Secret = setting("Keycloak client secret")
    authorization_servers: tuple[str, ...] = setting(
        "List of authorization server URLs (defaults to baseUrl)", default=()
    )
    discovery_url: str | None = setting(
        "where discovery is fetched when the realm is reached by an internal URL; the document's issuer "
        "must still be issuerUrl",
        default=None,
    )
    ca_file: str | None = setting("PEM file of the CA that signs Keycloak's certificate", default=None)
    scopes_supported: tuple[str, ...] = setting("Scopes advertised in metadata", default=())
    oidc_scopes: tuple[str, ...] = setting("Scopes to request from Keycloak", default=())
    client_ttl: float = setting("TTL for dynamically registered clients (0: for ever)", default=86400.0)
    session_ttl: float = setting("TTL for in-progress auth flows", default=600.0)
    code_ttl: float = setting("TTL for authorization codes", default=300.0)
    sealing_keys: tuple[Secret, ...] = setting(
        "keys that seal registrations and tokens: the first seals, all open (default: derived from "
        "clientSecret)",
        default=(),
    )
    audiences: tuple[str, ...] = setting(
        "accepted `aud` values; replaces the default rule (the resource's URL, or `azp` = clientId)",
        default=(),
    )
    required_scopes: tuple[str, ...] = setting("scopes that every access token must carry", default=())
    consent: Consent = setting(
        "when the consent page is shown: always, remember (once per browser and client) or never",
        default=Consent.REMEMBER,
    )
    forward_resource: bool = setting(
        "pass the client's `resource` parameter on to Keycloak (needs its resource-indicators feature)",
        default=False,
    )
    clients: tuple[StaticClient, ...] = setting(
        "clients known beforehand: `clientId`, `redirectUris`, and as needed `name` and `clientSecret` or "
        "`clientSecretFile`",
        default=(),
    )
    registration: Registration = setting(
        "who may register a client: open (anybody), token (who has registrationToken) or off",
        default=Registration.OPEN,
    )
    registration_token: Secret | None = setting(
        "the initial access token that registration: token asks for", default=None
    )
    allowed_redirects: tuple[str, ...] = setting(
        "where clients that register themselves may lead: hosts (`*.` for those below one), `loopback`, or "
        "an app's scheme as `cursor://` (default: everywhere)",
        default=(),
    )
    denied_redirects: tuple[str, ...] = setting(
        "where they may not lead, in the same words; wins over allowedRedirects", default=()
    )
    cimd: Cimd = field(factory=Cimd)


@frozen
class GateSettings:
    """``gate.*``: what ends a token's use beside its own time."""

    stream_grace: float = setting(
        "how long an event stream may outlive its token (0s: not at all)", default=300.0
    )
    remember_logouts: float = setting(
        "how long a logout is remembered; not shorter than access tokens live", default=86400.0
    )
    introspect: float = setting(
        "ask Keycloak whether tokens are active, and take its word for so long (1s to 5m; 0: do not ask)",
        default=0.0,
    )


@frozen
class Limits:
    """``limits.*``: how often the OAuth endpoints answer, as COUNT/DURATION (0: no limit)."""

    register_per_address: Rate = setting(
        "registrations from one client address (IPv6: one /64)", default=Rate(300, 60.0)
    )
    register_total: Rate = setting("registrations from everywhere", default=Rate(3000, 60.0))
    authorize_per_address: Rate = setting(
        "steps of logins (authorize, consent, callback) from one client address", default=Rate(1800, 60.0)
    )
    authorize_total: Rate = setting("steps of logins from everywhere", default=Rate(18000, 60.0))
    token_per_address: Rate = setting(
        "token and revocation requests from one client address", default=Rate(1200, 60.0)
    )
    token_total: Rate = setting("token and revocation requests from everywhere", default=Rate(12000, 60.0))


@frozen
class Store:
    """``store.*``: where codes, flow states and refresh answers are remembered."""

    url: StoreUrl = setting(
        "what remembers codes and states: `memory://`, `sqlite:///path`, `redis://` or `rediss://` "
        "(docs/store.md)",
        default=StoreUrl(),
    )
    ca_file: str | None = setting("PEM file of the CA that signs Redis's certificate", default=None)
    timeout: float = setting("how long the store may take to answer", default=2.0)


@frozen
class Log:
    """``log.*``: what the process says."""

    level: str = setting("DEBUG, INFO, WARN, ERROR, FATAL or PANIC", default="INFO")
    format: str = setting("text or json", default="text")


@frozen
class Config:
    """The whole configuration, complete and validated: nothing downstream checks it again."""

    upstream: Upstream
    auth: Auth
    server: Server = field(factory=Server)
    headers: Headers = field(factory=Headers)
    gate: GateSettings = field(factory=GateSettings)
    limits: Limits = field(factory=Limits)
    store: Store = field(factory=Store)
    log: Log = field(factory=Log)
