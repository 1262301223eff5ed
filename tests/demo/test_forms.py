"""Reading pages: what a headless login must see, whatever the page is made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.demo.forms import read_page
from mcp_oauth2_proxy.demo.pages import login_page


class Pages(SynchronousTestCase):
    """Forms, buttons and onward links."""

    def test_a_consent_like_page(self) -> None:
        """Hidden fields are kept, the first button is first, relative actions are resolved."""
        page = read_page(
            '<title>Allow?</title><form action="/oauth/consent?a=1&amp;b=2" method="post">'
            '<input type="hidden" name="token" value="t&quot;"><button name="answer" value="allow">Yes'
            '</button><button name="answer" value="deny">No</button><button type="button">x</button></form>',
            "https://h/p/authorize",
        )
        form = page.forms[0]
        self.assertEqual(page.title, "Allow?")
        self.assertEqual(form.action, "https://h/oauth/consent?a=1&b=2")
        self.assertEqual(form.fields, {"token": 't"'})
        self.assertEqual(form.buttons, [("answer", "allow"), ("answer", "deny")])

    def test_a_page_that_moves_on(self) -> None:
        """A refresh leads to its target."""
        page = read_page('<meta http-equiv="Refresh" content="0; url=../x?a=1&amp;b=2">', "https://h/a/b")
        self.assertEqual(page.refresh, "https://h/x?a=1&b=2")

    @given(st.text())
    def test_any_text_is_a_page(self, text: str) -> None:
        """No text makes the reader fail."""
        read_page(text, "https://h/")

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])), st.text())
    def test_the_login_form_survives_any_username(self, username: str, error: str) -> None:
        """What was typed comes back in its field and nowhere else: no markup of the user's is live."""
        page = read_page(
            login_page("r", "https://h/a?x=1&y=2", username, error).decode("utf-8", "replace"), "https://h/"
        )
        self.assertEqual(len(page.forms), 1)
        self.assertEqual(page.forms[0].action, "https://h/a?x=1&y=2")
        self.assertEqual(page.forms[0].fields["username"], username)
        self.assertTrue(page.forms[0].has_password)
