"""What a refused request hears, and what of an upstream's own challenge is passed on."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.challenge import (
    MAX_PARAMETER,
    carried_challenge,
    challenge,
    error_code,
    parse_bearer,
    status,
)
from mcp_oauth2_proxy.gate.model import Reason, Refusal

URL = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
WELL_FORMED = re.compile(r'Bearer [a-z_]+="[ !#-\[\]-~]*"(?:, [a-z_]+="[ !#-\[\]-~]*")*')


class Own(SynchronousTestCase):
    """The proxy's own challenges."""

    def test_no_token(self) -> None:
        """A client without a token hears where the metadata is, and no error (RFC 6750 section 3)."""
        refusal = Refusal(Reason.MISSING, "a Bearer token is required")
        self.assertEqual(challenge(refusal, metadata_url=URL), f'Bearer resource_metadata="{URL}"')
        self.assertEqual((status(refusal), error_code(refusal)), (401, None))

    def test_scopes(self) -> None:
        """Where scopes are required the challenge names them, so that the client asks for them at once."""
        self.assertEqual(
            challenge(None, metadata_url=URL, scopes=("mcp:write", "mcp:read")),
            f'Bearer resource_metadata="{URL}", scope="mcp:read mcp:write"',
        )

    def test_offline_access_is_never_asked_for(self) -> None:
        """``offline_access`` is not the resource's need, so no challenge names it."""
        self.assertEqual(
            challenge(None, metadata_url=URL, scopes=("offline_access",)), f'Bearer resource_metadata="{URL}"'
        )
        carried = carried_challenge(['Bearer scope="a offline_access"'], metadata_url=URL)
        self.assertEqual(carried, f'Bearer resource_metadata="{URL}", scope="a"')

    def test_bad_token(self) -> None:
        """Every trouble with a token is 401 invalid_token, which makes clients get a new one."""
        for reason in set(Reason) - {Reason.MISSING, Reason.SCOPE}:
            refusal = Refusal(reason, "the token has expired", "internal detail")
            self.assertEqual((status(refusal), error_code(refusal)), (401, "invalid_token"))
            self.assertEqual(
                challenge(refusal, metadata_url=URL),
                f'Bearer resource_metadata="{URL}", error="invalid_token", '
                'error_description="the token has expired"',
            )

    def test_missing_scope(self) -> None:
        """A missing scope alone is 403, with the scopes to ask for."""
        refusal = Refusal(Reason.SCOPE, "the token lacks a required scope")
        self.assertEqual(status(refusal), 403)
        self.assertEqual(
            challenge(refusal, metadata_url=URL, scopes=("x",)),
            f'Bearer resource_metadata="{URL}", scope="x", error="insufficient_scope", '
            'error_description="the token lacks a required scope"',
        )

    @given(st.text(), st.text(), st.lists(st.text()))
    def test_nothing_breaks_out_of_the_quotes(self, description: str, url: str, scopes: list[str]) -> None:
        """Whatever a description, a path or a scope holds, the header is one well-formed line."""
        header = challenge(Refusal(Reason.EXPIRED, description), metadata_url=url, scopes=scopes)
        self.assertIsNotNone(WELL_FORMED.fullmatch(header), header)


class CarriedOver(SynchronousTestCase):
    """An upstream that challenges by itself."""

    def carried(self, *theirs: str, scopes: tuple[str, ...] = ()) -> str:
        header = carried_challenge(theirs, metadata_url=URL, scopes=scopes)
        prefix = f'Bearer resource_metadata="{URL}"'
        self.assertTrue(header.startswith(prefix))
        return header[len(prefix) :].removeprefix(", ")

    def test_scope_step_up(self) -> None:
        """An upstream that wants another scope gets its wish to the client, with this proxy's metadata."""
        theirs = (
            'Bearer error="insufficient_scope", scope="files:write", '
            'resource_metadata="http://10.0.0.1/internal", error_description="need \\"write\\""'
        )
        self.assertEqual(
            self.carried(theirs),
            'scope="files:write", error="insufficient_scope", error_description="need \'write\'"',
        )

    def test_no_challenge(self) -> None:
        """A bare 401 of the upstream becomes this proxy's plain challenge."""
        self.assertEqual(self.carried(), "")
        self.assertEqual(self.carried(scopes=("a",)), 'scope="a"')
        self.assertEqual(self.carried('Basic realm="x"', "Negotiate", "", "Bearer"), "")

    def test_tokens_and_spacing(self) -> None:
        """Unquoted values, odd case and spaces are read as RFC 9110 allows."""
        self.assertEqual(
            parse_bearer('bEaReR ERROR = invalid_token , realm="a, b", Scope="x y"'),
            {"error": "invalid_token", "scope": "x y"},
        )

    def test_bearer_after_another_scheme(self) -> None:
        """Several challenges in one header: the Bearer one counts, and no parameter of its neighbours."""
        self.assertEqual(
            parse_bearer('Basic realm="x", Bearer error="invalid_token", Digest scope="no"'),
            {"error": "invalid_token"},
        )
        self.assertEqual(parse_bearer('Basic scope="no"'), {})

    def test_first_of_duplicates(self) -> None:
        """Of duplicate parameters the first counts, within a header and across headers."""
        self.assertEqual(
            self.carried('Bearer error="a", error="b"', 'Bearer error="c", scope="s"'), 'scope="s", error="a"'
        )

    def test_long_values_are_cut(self) -> None:
        """An upstream cannot blow up the header."""
        found = parse_bearer('Bearer error_description="' + "x" * 3000 + '"')
        self.assertEqual(len(found["error_description"]), MAX_PARAMETER)
        self.assertEqual(parse_bearer('Bearer error_description="' + "x" * 100_000 + '"'), {})

    @given(
        st.lists(st.text() | st.text(alphabet='Bearer ="\\,scope error\t').map("Bearer ".__add__), max_size=3)
    )
    @example(['Bearer error="' + "\\" * 4000])
    @example(["Bearer " + "a=" * 2000])
    @example(["Bearer " + ", " * 2000])
    def test_arbitrary_challenges(self, theirs: list[str]) -> None:
        """Whatever an upstream sends, the client gets one well-formed challenge."""
        header = carried_challenge(theirs, metadata_url=URL)
        self.assertIsNotNone(WELL_FORMED.fullmatch(header), header)
        self.assertLess(len(header), 4 * MAX_PARAMETER)

    TEXT = st.text(
        alphabet=[chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\'], min_size=1, max_size=60
    )

    @given(st.dictionaries(st.sampled_from(["error", "error_description"]), TEXT))
    def test_own_challenge_survives_a_second_proxy(self, said: dict[str, str]) -> None:
        """What this proxy writes it also reads: two of them in a row lose nothing."""
        theirs = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())
        self.assertEqual(parse_bearer(carried_challenge([theirs], metadata_url=URL)), said)
