"""A wrong configuration: every mistake at once, each in a line that says what to do."""

from __future__ import annotations

import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_oauth2_proxy.config.durations import format_duration, parse_duration
from mcp_oauth2_proxy.config.fields import FIELDS
from mcp_oauth2_proxy.config.load import load_config
from mcp_oauth2_proxy.config.mutations import NEVER_ADDED
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.config.yamlfile import MAX_FILE, read_yaml
from mcp_oauth2_proxy.relay.headers import NOT_ADDED
from tests.config.case import ConfigCase
from tests.config.examples import MINIMAL

#: What is wrong (section, YAML of the section) and a part of the line that says so.
WRONG = [
    ("server", "{listenAddress: '8080'}", "is not a listen address"),
    ("server", "{listenAddress: '[::1'}", "is not a listen address"),
    ("server", "{listenAddress: ':99999'}", "is not a listen address"),
    ("server", "{listenAddress: 'systemd:domain=UNIX:index=0'}", "does not name one of systemd's sockets"),
    ("server", "{listenAddress: 'systemd:domain=INET'}", "does not name one of systemd's sockets"),
    ("server", "{listenAddress: 'systemd:domain=INET:index=0:name=a'}", "does not name one of systemd's"),
    ("server", "{listenAddress: 'systemd:domain=INET:index=0:backlog=9'}", "does not name one of systemd's"),
    ("server", "{listenAddress: 'systemd:domain=INET:index=-1'}", "has no usable index"),
    ("server", "{listenAddress: 'systemd:domain=INET:name='}", "has no usable name"),
    ("server", "{readTimeout: 30}", "'30' is not a duration; expected for example 30s"),
    ("server", "{readTimeout: -1s}", "is not a duration"),
    ("server", "{readTimeout: [1s]}", "is a list; expected text"),
    ("server", "{readTimeot: 1s}", "is not a setting (did you mean readTimeout?)"),
    ("server", "{maxBodyBytes: much}", "is not a size"),
    ("server", "{maxConnections: -1}", "is not a number from 0"),
    ("server", "{maxHeaderLines: 0}", "is not a number from 1"),
    ("server", "{workers: 0}", "is not a number from 1 to 256, or auto"),
    ("server", "{workers: many}", "is not a number from 1 to 256, or auto"),
    ("server", "{trustedProxies: [10.0.0.0/99]}", "is not an address or CIDR network"),
    ("server", "{corsOrigins: [app.example.com]}", "is not an absolute http or https URL"),
    ("server", "{corsOrigins: ['https://a/b']}", "has a path; expected an origin"),
    ("gate", "{rememberLogouts: 5s}", "must be from 1m to 168h"),
    ("gate", "{rememberLogouts: 200h}", "must be from 1m to 168h"),
    ("limits", "{registerTotal: 10}", "'10' is not a rate; expected for example 600/1m"),
    ("limits", "{registerTotal: 10/0s}", "is not a rate"),
    ("limits", "{tokenTotal: ten/1m}", "is not a rate"),
    ("server", "[]", "is not a mapping"),
    ("upstream", "{url: localhost:3000}", "is not an absolute http or https URL"),
    ("upstream", "{url: 'http://u:p@h'}", "must not carry a user name or password"),
    ("upstream", "{url: 'http://h/?q'}", "has a query or fragment"),
    ("upstream", "{url: 'http://h:port'}", "is not a URL"),
    ("upstream", "{url: ''}", "is empty"),
    ("upstream", "{url: 'http://h', caFile: /nowhere}", "cannot be read"),
    ("headers", "{mutations: [{action: remvoe}]}", "did you mean remove?"),
    ("headers", "{mutations: [{action: remove}]}", "[0].name None is not a header name"),
    ("headers", "{mutations: [{action: remove, name: 'a b'}]}", "is not a header name"),
    ("headers", "{mutations: [{action: remove, name: A, value: b}]}", "[0].value is no field of remove"),
    ("headers", "{mutations: [{action: add, name: A}]}", "needs either value or valueFrom"),
    ("headers", "{mutations: [{action: add, name: A, value: b, valueFrom: {claim: c}}]}", "needs either"),
    ("headers", '{mutations: [{action: add, name: A, value: "a\\nb"}]}', "is not a header value"),
    ("headers", "{mutations: [{action: add, name: A, valueFrom: {}}]}", "needs exactly one of"),
    (
        "headers",
        "{mutations: [{action: add, name: A, valueFrom: {claim: a, queryParameter: b}}]}",
        "exactly one",
    ),
    (
        "headers",
        "{mutations: [{action: add, name: A, valueFrom: {authorizationHeader: false}}]}",
        "only be true",
    ),
    ("headers", "{mutations: [{action: add, name: Content-Length, value: '1'}]}", "cannot be set"),
    ("headers", "{mutations: [{action: add, name: Proxy-Authorization, value: '1'}]}", "cannot be set"),
    ("headers", "{mutations: {action: remove}}", "is not a list"),
    ("server", "{maxHeaderBytes: 0}", "must be larger than 0"),
    ("upstream", f"{{url: 'http://h', caFile: {__file__}}}", "holds no PEM certificate"),
    ("gate", "{introspect: 500ms}", "must be from 1s to 5m, or 0s"),
    ("gate", "{introspect: 6m}", "must be from 1s to 5m, or 0s"),
    ("gate", "{introspect: 10}", "is not a duration"),
    ("store", "{url: 'postgres://h'}", "is not the URL of a store that is built in"),
    ("log", "{level: LOUD}", "expected DEBUG, INFO, WARN, ERROR, FATAL, PANIC"),
    ("log", "{format: xml}", "expected text, json"),
    ("lgo", "{}", "is not a setting (did you mean log?)"),
]
#: The same for fields of ``auth``.
WRONG_AUTH = [
    ("scopesSupported: ['a b']", "is not a scope"),
    ("sealingKeys: [short]", "is too short; expected 32"),
    ("sessionTtl: 0s", "must be longer than 0s"),
    ("codeTtl: 0s", "must be longer than 0s"),
    ("consent: perhaps", "expected always, remember, never"),
    ("forwardResource: maybe", "is not a truth value"),
    ("discoveryUrl: ftp://h", "is not an absolute http or https URL"),
    ("baseUrl: https://again", "is there twice"),
    ("registration: closed", "expected open, token, off"),
    ("registration: token", "registrationToken is required where auth.registration is token"),
    ("registrationToken: abc", "has no meaning unless auth.registration is token"),
    ("allowedRedirects: ['https://h/cb']", "is no place to lead to"),
    ("deniedRedirects: ['a.*.b']", "is no place to lead to"),
    ("cimd: {allowedHosts: ['https://h']}", "is not a host"),
    ("cimd: {allowedPorts: [0]}", "is not a port"),
    ("cimd: {enabld: true}", "auth.cimd.enabld is not a setting (did you mean enabled?)"),
    ("cimd: yes", "auth.cimd is not a mapping"),
    ("clients: inspector", "is not a list; expected entries"),
    ("clients: [inspector]", "[0] is not a mapping"),
    ("clients: [{clientId: a}]", "[0].redirectUris must name at least one"),
    ("clients: [{clientId: 'a b', redirectUris: ['cursor://x']}]", "must be ASCII without blanks"),
    ("clients: [{clientId: 'https://a', redirectUris: ['cursor://x']}]", "must be a short name and no URL"),
    ("clients: [{clientId: a, redirectUri: x}]", "[0].redirectUri is no field of a client"),
    ("clients: [{clientId: a, redirectUris: ['http://h/']}]", "[0].redirectUris[0] uses http"),
    ("clients: [{clientId: a, redirectUris: ['cursor://x'], clientSecret: short}]", "is too short"),
    (
        "clients: [{clientId: a, redirectUris: ['cursor://x'], clientSecretFile: /nowhere}]",
        "clientSecretFile '/nowhere' cannot be read",
    ),
    (
        "clients: [{clientId: a, redirectUris: ['cursor://x']}, {clientId: a, redirectUris: ['cursor://y']}]",
        "has 'a' twice",
    ),
]


class Mistakes(ConfigCase):
    """What the operator reads."""

    def test_each(self) -> None:
        """Every kind of mistake is one line that names the field and the line of the file."""
        for section, text, said in WRONG:
            document = pyyaml.safe_load(MINIMAL)
            document.pop(section, None)
            yaml = pyyaml.safe_dump(document) + f"{section}: {text}\n"
            lines = self.mistakes(yaml)
            hits = [line for line in lines if said in line]
            self.assertEqual(len(hits), 1, (text, lines))
            self.assertTrue(hits[0].startswith(section), hits)
            self.assertRegex(hits[0], r"\[config\.yaml:\d+\]$")
        for text, said in WRONG_AUTH:
            (line,) = self.mistakes(MINIMAL + f"  {text}\n")
            self.assertIn(said, line)
            self.assertTrue(line.startswith("auth."), line)

    def test_all_at_once(self) -> None:
        """Ten mistakes are ten lines, not ten starts."""
        yaml = "server: {readTimeout: x, idleTimeout: y}\nlog: {level: z}\nauht: {}\nauth: {consent: a}\n"
        self.assertEqual(len(self.mistakes(yaml, {"MCP_OAUTH2_PROXY_NOPE": "1"})), 5 + 1 + 5)

    def test_not_yaml(self) -> None:
        """A syntax error has its line and column; nothing else is said, since nothing else is known."""
        (line,) = self.mistakes("auth:\n  baseUrl: [\n")
        self.assertRegex(line, r"^config\.yaml:\d+:\d+ is not YAML: ")

    def test_odd_files(self) -> None:
        """Aliases, other encodings and huge files are refused in words."""
        self.assertIn("uses a YAML alias", self.mistakes("a: &x 1\nb: *x\n")[0])
        self.assertIn("is not UTF-8", self.mistakes(b"\xff\xfe")[0])
        self.assertIn("is larger than", self.mistakes(b"#" * (MAX_FILE + 1))[0])
        self.assertIn("is nested too deeply", self.mistakes(f"log: {{level: {'[' * 30}{']' * 30}}}\n")[0])

    def test_a_file_that_is_not_there(self) -> None:
        """A file that was asked for must be there."""
        error = self.assertRaises(ConfigError, load_config, "/nowhere/config.yaml", {})
        self.assertIn("/nowhere/config.yaml is not there", str(error))


class SameRules(ConfigCase):
    """What the configuration accepts, the relay can do."""

    def test_headers_that_cannot_be_added(self) -> None:
        """Every header that the relay refuses to add is refused with the configuration already."""
        self.assertEqual({name.decode() for name in NOT_ADDED} - NEVER_ADDED, set())


class AnyInput(ConfigCase):
    """Whatever comes, the answer is a configuration or a list of mistakes."""

    @given(st.binary(max_size=200))
    def test_any_bytes(self, content: bytes) -> None:
        """Any file is read or refused, never a traceback."""
        try:
            read_yaml(content, "config.yaml", {})
        except ConfigError as error:
            self.assertTrue(error.problems)

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([field.environment for field in FIELDS]), st.text(max_size=40), max_size=4
        )
    )
    def test_any_environment(self, environ: dict[str, str]) -> None:
        """Any value of any variable is taken or refused, in one line each."""
        try:
            self.load(MINIMAL, environ)
        except ConfigError as error:
            for problem in error.problems:
                self.assertEqual(len(str(problem).splitlines()), 1)

    @given(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), st.lists, max_leaves=6)
    )
    def test_any_value(self, value: object) -> None:
        """Any YAML in the place of any value is taken or refused."""
        document: dict[str, object] = {}
        for field in FIELDS:
            inner: dict[str, object] = document
            for step in field.section.split("."):
                inner = inner.setdefault(step, {})  # type: ignore[assignment]
            inner[field.key] = value
        text = pyyaml.safe_dump(document).encode()
        try:
            self.load(text)
        except ConfigError as error:
            self.assertTrue(error.problems)

    @given(st.integers(0, 10**12))
    def test_durations_round_trip(self, milliseconds: int) -> None:
        """What is shown for a duration means the same when it is read."""
        seconds = milliseconds / 1000
        self.assertAlmostEqual(parse_duration(format_duration(seconds)), seconds, places=6)

    @given(st.text(max_size=20))
    def test_any_duration(self, text: str) -> None:
        """Any text is a duration or not; none is negative."""
        try:
            self.assertGreaterEqual(parse_duration(text), 0)
        except ValueError as error:
            self.assertIn("is not a duration", str(error))
