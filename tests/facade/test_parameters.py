"""Query strings, forms and JSON bodies: every input ends in a value or in a 4xx OAuth error."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason
from mcp_oauth2_proxy.facade.parameters import (
    MAX_BODY,
    MAX_DEPTH,
    MAX_PARAMETERS,
    MAX_QUERY,
    MAX_VALUE,
    parse_form,
    parse_json_object,
    parse_query,
)

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Forms(SynchronousTestCase):
    """``application/x-www-form-urlencoded`` in queries and bodies."""

    def refused(self, raw: bytes) -> OAuthError:
        return self.assertRaises(OAuthError, lambda: parse_query(raw).refuse_repeated())

    @given(st.dictionaries(text.filter(lambda name: name != "resource"), text, max_size=20))
    def test_what_was_encoded_is_read(self, values: dict[str, str]) -> None:
        """A client's parameters arrive as it meant them, whatever characters they have."""
        parameters = parse_query(urlencode(values).encode())
        self.assertEqual(dict(parameters.values), values)
        self.assertEqual(parameters.repeated, frozenset())

    @given(st.binary(max_size=300))
    def test_any_bytes_end_in_a_value_or_a_4xx(self, raw: bytes) -> None:
        """No byte string in a query or a form makes the server fail."""
        for parse in (parse_query, lambda body: parse_form(body, FORM)):
            try:
                parse(raw)
            except OAuthError as error:
                self.assertTrue(400 <= error.status < 500)

    def test_empty_values_are_absent(self) -> None:
        """``state=`` is treated as if it had not been sent, and is no repetition of a real one."""
        parameters = parse_query(b"state=&scope=&state=x")
        self.assertEqual(parameters.get("state"), "x")
        self.assertIsNone(parameters.get("scope"))
        parameters.refuse_repeated()

    def test_repetition_is_refused_and_named(self) -> None:
        """A parameter sent twice is refused by name, even with equal values."""
        error = self.refused(b"code=a&code=a")
        self.assertEqual((error.code, error.status, error.reason), ("invalid_request", 400, Reason.REPEATED))
        self.assertIn("code", error.description)

    def test_a_repeated_name_that_is_no_name_is_not_echoed(self) -> None:
        """A refusal does not carry markup that somebody put into a parameter's name."""
        self.assertNotIn("<", self.refused(b"%3Cb%3E=1&%3Cb%3E=2").description)

    def test_only_the_asked_names_are_judged(self) -> None:
        """The authorize endpoint can tell a repeated redirect_uri from a repeated state."""
        parameters = parse_query(b"state=1&state=2&client_id=x")
        parameters.refuse_repeated("client_id", "redirect_uri")
        self.assertEqual(parameters.repeated, frozenset({"state"}))

    def test_resource_may_come_more_than_once(self) -> None:
        """Identical ``resource`` parameters become one; different ones are kept for the resource rule."""
        self.assertEqual(parse_query(b"resource=a&resource=a").resources, ("a",))
        self.assertEqual(parse_query(b"resource=a&resource=b").resources, ("a", "b"))

    def test_control_characters_are_refused(self) -> None:
        """NUL, CR and LF in a name or value are a 400, never a broken header or a 500."""
        for raw in (b"a=%00", b"a%0d=1", b"a=b%0Ac", b"a=\x7f"):
            self.assertEqual(self.refused(raw).status, 400)

    def test_bad_encodings_are_refused(self) -> None:
        """Broken percent-encoding and anything but UTF-8 are a 400."""
        for raw in (b"a=%", b"a=%zz", b"a=%f", b"a=%ff", b"a=\xff", b"a=%ed%a0%80"):
            self.assertEqual(self.refused(raw).status, 400)

    def test_bounds(self) -> None:
        """Too many, too long, or too much altogether is refused."""
        self.refused(b"&".join(b"p%d=1" % number for number in range(MAX_PARAMETERS + 1)))
        self.refused(b"a=" + b"b" * (MAX_VALUE + 1))
        self.refused(b"=value")
        self.assertEqual(self.refused(b"a" * (MAX_QUERY + 1)).status, 414)
        error = self.assertRaises(OAuthError, parse_form, b"a" * (MAX_BODY + 1), FORM)
        self.assertEqual(error.status, 413)

    def test_a_form_has_its_content_type(self) -> None:
        """JSON, nothing, or another charset at a form endpoint is refused; a charset of UTF-8 is fine."""
        for content_type in (None, "", JSON, "text/plain", f"{FORM}; charset=latin-1"):
            error = self.assertRaises(OAuthError, parse_form, b"a=b", content_type)
            self.assertEqual((error.status, error.reason), (400, Reason.CONTENT_TYPE))
        for content_type in (FORM, FORM.upper(), f"{FORM};charset=UTF-8"):
            self.assertEqual(parse_form(b"a=b+c", content_type).require("a"), "b c")

    def test_a_missing_parameter_is_named(self) -> None:
        """The error says which parameter is missing."""
        error = self.assertRaises(OAuthError, parse_query(b"").require, "code")
        self.assertIn("code", error.description)

    def test_values_do_not_show(self) -> None:
        """A code in a request does not reach a log through a repr."""
        self.assertNotIn("geheim", repr(parse_query(b"code=geheim")))


class JsonBodies(SynchronousTestCase):
    """Registration bodies."""

    @given(st.dictionaries(st.text(), json_values, max_size=5))
    def test_objects_are_read_as_they_are(self, document: dict[str, object]) -> None:
        """What a client's JSON library writes is read back equal."""
        self.assertEqual(parse_json_object(json.dumps(document).encode(), JSON), document)

    @given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
    def test_any_bytes_end_in_an_object_or_a_4xx(self, body: bytes) -> None:
        """No body makes the server fail."""
        try:
            self.assertIsInstance(parse_json_object(body, JSON), dict)
        except OAuthError as error:
            self.assertEqual((error.code, error.status), ("invalid_client_metadata", 400))

    @given(json_values.filter(lambda value: not isinstance(value, dict)))
    def test_only_objects(self, value: object) -> None:
        """A list, a string or a number is refused."""
        self.assertRaises(OAuthError, parse_json_object, json.dumps(value).encode(), JSON)

    def test_what_parsers_disagree_about_is_refused(self) -> None:
        """Duplicate keys, NaN, lone surrogates, huge numbers, other encodings: a 400 each."""
        for body in (
            b'{"a":1,"a":2}',
            b'{"x":[{"a":1,"a":1}]}',
            b'{"a":NaN}',
            b'{"a":-Infinity}',
            rb'{"a":"\ud800"}',
            rb'{"\udfff":1}',
            b'{"a":' + b"9" * 5000 + b"}",
            '{"a":1}'.encode("utf-16"),
            b'\xef\xbb\xbf{"a":1}',
            b"{'a':1}",
            b"",
        ):
            error = self.assertRaises(OAuthError, parse_json_object, body, JSON)
            self.assertEqual((error.code, error.status), ("invalid_client_metadata", 400))

    def test_depth_is_bounded(self) -> None:
        """A document nested a hundred thousand deep is a 400; ordinary nesting is fine."""
        for depth in (MAX_DEPTH + 1, 900, 100_000):
            body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
            self.assertRaises(OAuthError, parse_json_object, body, JSON)
        parse_json_object(b'{"a":' + b"[" * 10 + b"]" * 10 + b"}", JSON)

    def test_size_and_type(self) -> None:
        """More than 1 MiB is a 413; another content type is a 400."""
        error = self.assertRaises(OAuthError, parse_json_object, b" " * (MAX_BODY + 1), JSON)
        self.assertEqual(error.status, 413)
        for content_type in (None, "text/json", FORM, "application/json; charset=utf-16"):
            self.assertRaises(OAuthError, parse_json_object, b"{}", content_type)
        self.assertEqual(parse_json_object(b"{}", "application/json; charset=utf-8"), {})
