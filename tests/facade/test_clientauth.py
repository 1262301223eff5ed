"""Client authentication: none, post and Basic in the spellings that SDKs use, and nothing else."""

from __future__ import annotations

import base64
from urllib.parse import quote_plus

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.clientauth import authenticate, read_credentials
from mcp_oauth2_proxy.facade.clients import BASIC, NONE, Client
from mcp_oauth2_proxy.facade.errors import ClientAuthenticationError, OAuthError
from mcp_oauth2_proxy.facade.parameters import Parameters

#: A secret with everything that the two readings of Basic disagree about.
SECRET = "a+b/c=d%e 41"


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class ClientAuthentication(SynchronousTestCase):
    """One confidential and one public client."""

    confidential = Client("id-1", ("https://c/cb",), BASIC, ("authorization_code",))
    public = Client("id-2", ("https://c/cb",), NONE, ("authorization_code",))

    def attempt(self, client: Client, *headers: bytes, **form: str) -> Client:
        credentials = read_credentials(headers, Parameters(form))
        return authenticate(client, credentials, lambda _, secret: secret == SECRET)

    def refused(self, client: Client, *headers: bytes, **form: str) -> OAuthError:
        return self.assertRaises(OAuthError, self.attempt, client, *headers, **form)

    def test_every_method_is_accepted(self) -> None:
        """Body, raw Basic and URL-encoded Basic all prove a confidential client, whatever it registered."""
        self.attempt(self.confidential, client_id="id-1", client_secret=SECRET)
        self.attempt(self.confidential, basic("id-1", SECRET))
        self.attempt(self.confidential, basic("id-1", quote_plus(SECRET)))
        self.attempt(self.confidential, basic("id%2D1", quote_plus(SECRET)))
        self.attempt(self.confidential, basic("id-1", SECRET), client_id="id-1")

    def test_public_clients_just_say_who_they_are(self) -> None:
        """By client_id in the body, or by Basic with an empty password."""
        self.attempt(self.public, client_id="id-2")
        self.attempt(self.public, basic("id-2", ""))
        self.attempt(self.public, basic("id-2", ""), client_id="id-2")

    def test_wrong_or_missing_secrets(self) -> None:
        """A wrong, empty or missing secret is 401 invalid_client; Basic is answered by a Basic challenge."""
        for headers, form in (
            ((), {"client_id": "id-1", "client_secret": "wrong"}),
            ((), {"client_id": "id-1"}),
            ((basic("id-1", "wrong"),), {}),
            ((basic("id-1", ""),), {}),
        ):
            error = self.refused(self.confidential, *headers, **form)
            self.assertEqual((error.code, error.status), ("invalid_client", 401))
            assert isinstance(error, ClientAuthenticationError)
            self.assertEqual(error.basic, bool(headers))
        self.assertEqual(
            self.refused(self.public, client_id="id-2", client_secret="x").code, "invalid_client"
        )

    def test_contradictions(self) -> None:
        """Two secrets, two clients or two headers in one request are 400 invalid_request."""
        header = basic("id-1", SECRET)
        self.assertEqual(
            self.refused(self.confidential, header, client_secret=SECRET).code, "invalid_request"
        )
        self.assertEqual(self.refused(self.confidential, header, client_id="id-2").code, "invalid_request")
        self.assertEqual(self.refused(self.confidential, header, header).code, "invalid_request")

    def test_an_empty_basic_beside_a_secret_in_the_body(self) -> None:
        """A client that sends both, the header empty, is taken by the body."""
        self.attempt(self.confidential, basic("id-1", ""), client_secret=SECRET)

    def test_no_client_at_all(self) -> None:
        """A request that names nobody, or uses an assertion or another scheme, is 401 invalid_client."""
        self.assertEqual(self.refused(self.public).status, 401)
        self.assertEqual(self.refused(self.public, b"Bearer abc", client_id="id-2").status, 401)
        self.assertEqual(self.refused(self.public, client_id="id-2", client_assertion="x").status, 401)

    @given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda raw: b"Basic " + base64.b64encode(raw)))
    def test_any_header_ends_in_credentials_or_a_4xx(self, header: bytes) -> None:
        """No Authorization header makes the endpoint fail."""
        try:
            read_credentials([header], Parameters({}))
        except OAuthError as error:
            self.assertIn(error.status, (400, 401))

    def test_secrets_do_not_show(self) -> None:
        """Credentials in a log line do not tell the secret."""
        self.assertNotIn("geheim", repr(read_credentials([basic("a", "geheim")], Parameters({}))))
