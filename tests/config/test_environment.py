"""The environment: every field, alone or over a file."""

from __future__ import annotations

import json

from mcp_oauth2_proxy.config.fields import FIELDS, value_of
from mcp_oauth2_proxy.config.model import (
    AUTO,
    Action,
    Mutation,
    Rate,
    Registration,
    StaticClient,
    StoreKind,
    StoreUrl,
)
from tests.config.case import ConfigCase
from tests.config.examples import ENVIRONMENT, MINIMAL

SEALING_KEYS = ("k" * 32, "another sealing key, long enough!!")
#: For each field what a user would write, and what it means.
VALUES = {
    "server.listenAddress": ("127.0.0.1:9", "127.0.0.1:9"),
    "server.readTimeout": ("1h30m", 5400.0),
    "server.writeTimeout": ("250ms", 0.25),
    "server.idleTimeout": ("0s", 0.0),
    "server.shutdownGrace": ("5s", 5.0),
    "server.maxHeaderBytes": ("32KiB", 32768),
    "server.maxHeaderLines": ("50", 50),
    "server.workers": ("Auto", AUTO),
    "server.maxConnections": ("200", 200),
    "server.maxConnectionsPerAddress": ("0", 0),
    "server.maxBodyBytes": ("4194304", 4194304),
    "server.trustedProxies": ("10.0.0.0/8, 127.0.0.1", ("10.0.0.0/8", "127.0.0.1/32")),
    "server.corsOrigins": ("https://App.example.com/, *", ("https://app.example.com", "*")),
    "upstream.url": ("http://up:1/base", "http://up:1/base"),
    "upstream.connectTimeout": ("1s", 1.0),
    "upstream.responseHeaderTimeout": ("2m", 120.0),
    "upstream.idleTimeout": ("3s", 3.0),
    "headers.mutations": ("[{action: remove, name: X-A}]", (Mutation(Action.REMOVE, "X-A"),)),
    "auth.baseUrl": ("https://p/", "https://p"),
    "auth.issuerUrl": ("https://k/auth/realms/r", "https://k/auth/realms/r"),
    "auth.discoveryUrl": ("http://keycloak:8080/realms/r", "http://keycloak:8080/realms/r"),
    "auth.clientId": ("other", "other"),
    "auth.authorizationServers": ("https://a,https://b", ("https://a", "https://b")),
    "auth.scopesSupported": ("[one, two]", ("one", "two")),
    "auth.oidcScopes": ("openid,email", ("openid", "email")),
    "auth.clientTtl": ("1h", 3600.0),
    "auth.sessionTtl": ("1m", 60.0),
    "auth.codeTtl": ("1m", 60.0),
    "auth.audiences": ("https://p/mcp", ("https://p/mcp",)),
    "auth.requiredScopes": ("mcp:read", ("mcp:read",)),
    "auth.forwardResource": ("true", True),
    "auth.registration": ("OFF", Registration.OFF),
    "auth.allowedRedirects": (
        "claude.ai, *.Example.com, loopback",
        ("claude.ai", "*.example.com", "loopback"),
    ),
    "auth.deniedRedirects": ("[cursor://]", ("cursor://",)),
    "auth.clients": (
        "[{clientId: inspector, redirectUris: ['http://localhost:6274/oauth/callback']}]",
        (StaticClient("inspector", ("http://localhost:6274/oauth/callback",)),),
    ),
    "auth.cimd.enabled": ("no", False),
    "auth.cimd.allowedHosts": ("claude.ai,*.example.com", ("claude.ai", "*.example.com")),
    "auth.cimd.allowedPorts": ("443, 8443", (443, 8443)),
    "auth.cimd.allowedNetworks": ("10.0.0.0/8", ("10.0.0.0/8",)),
    "gate.streamGrace": ("0s", 0.0),
    "gate.rememberLogouts": ("1h", 3600.0),
    "limits.registerPerAddress": ("10/1m", Rate(10, 60.0)),
    "limits.registerTotal": ("0", Rate(0, 1.0)),
    "limits.authorizePerAddress": ("100 / s", Rate(100, 1.0)),
    "limits.authorizeTotal": ("1000/1h30m", Rate(1000, 5400.0)),
    "limits.tokenPerAddress": ("5/500ms", Rate(5, 0.5)),
    "limits.tokenTotal": ("0/1m", Rate(0, 60.0)),
    "gate.introspect": ("10s", 10.0),
    "store.url": ("redis://h:1/2", StoreUrl(StoreKind.REDIS, hosts=(("h", 1),), database=2)),
    "store.timeout": ("500ms", 0.5),
    "log.level": ("debug", "DEBUG"),
    "log.format": ("JSON", "json"),
}
#: Fields whose values are no plain data; each has a test of its own below.
APART = {"auth.clientSecret", "auth.sealingKeys", "auth.consent", "auth.caFile", "upstream.caFile"}
APART |= {"auth.registrationToken", "auth.cimd.caFile", "store.caFile"}


class Environment(ConfigCase):
    """``MCP_OAUTH2_PROXY_`` and the path in capitals."""

    def test_alone(self) -> None:
        """No file is needed."""
        config = self.load(None, ENVIRONMENT).config
        self.assertEqual(config, self.load(MINIMAL).config)

    def test_every_field(self) -> None:
        """Every field can be set, over what the file says, in any letter case."""
        self.assertEqual(set(VALUES) | APART, {field.path for field in FIELDS})
        for field in FIELDS:
            if field.path in APART:
                continue
            text, expected = VALUES[field.path]
            camel = "MCP_OAUTH2_PROXY_" + field.path.replace(".", "_")
            for name in (field.environment, camel):
                loaded = self.load(MINIMAL, {name: text})
                self.assertEqual(value_of(loaded.config, field), expected, name)
                self.assertEqual(loaded.sources[field.path], f"environment {name}")

    def test_consent(self) -> None:
        """An enumeration, in any letter case."""
        config = self.load(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_CONSENT": "Always"}).config
        self.assertEqual(config.auth.consent.value, "always")

    def test_lists_of_secrets(self) -> None:
        """Sealing keys as YAML, or one a line in a file."""
        as_yaml = self.load(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_SEALINGKEYS": json.dumps(SEALING_KEYS)})
        path = self.write("keys", "\n".join(SEALING_KEYS) + "\n")
        as_file = self.load(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_SEALINGKEYS_FILE": path})
        for loaded in (as_yaml, as_file):
            self.assertEqual(tuple(key.reveal() for key in loaded.config.auth.sealing_keys), SEALING_KEYS)

    def test_mutations_as_json(self) -> None:
        """Nested settings are YAML, of which JSON is a part."""
        steps = [
            {"action": "add", "name": "X-User", "valueFrom": {"claim": "email"}},
            {"action": "set-x-forwarded"},
        ]
        config = self.load(MINIMAL, {"MCP_OAUTH2_PROXY_HEADERS_MUTATIONS": json.dumps(steps)}).config
        self.assertEqual(
            [step.action for step in config.headers.mutations], [Action.ADD, Action.SET_X_FORWARDED]
        )

    def test_precedence(self) -> None:
        """A flag wins over the environment, which wins over the file, which wins over the default."""
        yaml = MINIMAL + "log: {level: WARN}\n"
        variable = {"MCP_OAUTH2_PROXY_LOG_LEVEL": "ERROR"}
        self.assertEqual(self.load(MINIMAL).config.log.level, "INFO")
        self.assertEqual(self.load(yaml).config.log.level, "WARN")
        self.assertEqual(self.load(yaml, variable).config.log.level, "ERROR")
        self.assertEqual(self.load(yaml, variable, {"log.level": "DEBUG"}).config.log.level, "DEBUG")

    def test_an_unknown_variable(self) -> None:
        """A misspelt variable is a mistake with a near match, not silence."""
        mistakes = self.mistakes(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_ISUERURL": "x"})
        self.assertEqual(len(mistakes), 1)
        self.assertIn("did you mean MCP_OAUTH2_PROXY_AUTH_ISSUERURL?", mistakes[0])

    def test_service_links(self) -> None:
        """What Kubernetes adds for a service called mcp-oauth2-proxy is no mistake."""
        links = {
            "MCP_OAUTH2_PROXY_SERVICE_HOST": "10.0.0.1",
            "MCP_OAUTH2_PROXY_SERVICE_PORT_HTTP": "8080",
            "MCP_OAUTH2_PROXY_PORT_8080_TCP_ADDR": "10.0.0.1",
        }
        self.load(MINIMAL, links)

    def test_the_path_of_the_file(self) -> None:
        """``MCP_OAUTH2_PROXY_CONFIG`` names the file where no flag does."""
        path = self.write("elsewhere.yaml", MINIMAL)
        self.assertEqual(self.load(None, {"MCP_OAUTH2_PROXY_CONFIG": path}).config, self.load(MINIMAL).config)


class Secrets(ConfigCase):
    """Secrets from files and variables."""

    def test_from_a_file(self) -> None:
        """``clientSecretFile`` in YAML, and both spellings of its variable; the last line break goes."""
        path = self.write("secret", "from a file\n")
        yaml = MINIMAL.replace("clientSecret: secret", f"clientSecretFile: {path}")
        loaded = [
            self.load(yaml),
            self.load(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRETFILE": path}),
            self.load(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET_FILE": path}),
        ]
        for one in loaded:
            self.assertEqual(one.config.auth.client_secret.reveal(), "from a file")

    def test_both(self) -> None:
        """A secret and its file in one place contradict each other."""
        path = self.write("secret", "x")
        self.assertIn("both", self.mistakes(MINIMAL + f"  clientSecretFile: {path}\n")[0])

    def test_unusable_files(self) -> None:
        """A file that is missing, empty or no text is named."""
        for content, word in (
            (None, "cannot be read"),
            (" \n", "is empty"),
            (b"\xff\xfe\x00", "is not UTF-8"),
        ):
            path = str(self.directory / "secret")
            if content is not None:
                self.write("secret", content)
            (mistake,) = self.mistakes(MINIMAL, {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRETFILE": path})
            self.assertIn(word, mistake)

    def test_variables_in_yaml(self) -> None:
        """``${NAME}`` is replaced, ``$$`` is a dollar, and an unset variable is a mistake."""
        yaml = MINIMAL.replace("clientSecret: secret", "clientSecret: '${ONE}-$${TWO}-$$'")
        self.assertEqual(self.load(yaml, {"ONE": "1"}).config.auth.client_secret.reveal(), "1-${TWO}-$")
        (mistake,) = self.mistakes(yaml)
        self.assertIn("names the environment variable ONE, which is not set", mistake)

    def test_never_shown(self) -> None:
        """No repr, no mistake and no effective configuration shows a secret."""
        secret = "hunter2-hunter2"
        yaml = MINIMAL.replace("clientSecret: secret", f"clientSecret: {secret}")
        short = f"  sealingKeys: [{secret}]\n"
        self.assertNotIn(secret, repr(self.load(yaml)))
        self.assertNotIn(secret, "\n".join(self.mistakes(yaml + short)))
