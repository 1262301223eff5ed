"""Reading a page the way a person's browser would, as far as logging in needs it: forms and onward links."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urljoin

from attrs import define, field


@define
class Form:
    """A form: where it posts to, its fields as they stand, and its buttons as (name, value) pairs."""

    action: str
    fields: dict[str, str] = field(factory=dict)
    buttons: list[tuple[str, str]] = field(factory=list)
    has_password: bool = False


@define
class Page:
    """What of a page matters: its title, its forms, and where it goes by itself."""

    title: str = ""
    forms: list[Form] = field(factory=list)
    #: The target of ``<meta http-equiv="refresh">``, absolute.
    refresh: str | None = None


class _Reader(HTMLParser):
    """Collects a :class:`Page`; relative URLs are resolved against the page's own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.page = Page()
        self._url = url
        self._form: Form | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._in_title = True
        elif tag == "form":
            self._form = Form(urljoin(self._url, attributes.get("action", "")))
            self.page.forms.append(self._form)
        elif tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
            _, _, target = attributes.get("content", "").partition("=")
            if target:
                self.page.refresh = urljoin(self._url, target.strip(" '\""))
        elif tag in ("input", "button") and self._form is not None:
            self._add_control(self._form, tag, attributes)

    @staticmethod
    def _add_control(form: Form, tag: str, attributes: dict[str, str]) -> None:
        name, kind = attributes.get("name"), attributes.get("type", "").lower()
        if tag == "button" or kind == "submit":
            if kind in ("", "submit"):
                form.buttons.append((name or "", attributes.get("value", "")))
        elif name is not None and kind not in ("checkbox", "radio"):
            form.fields[name] = attributes.get("value", "")
            form.has_password = form.has_password or kind == "password"

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "form":
            self._form = None

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.page.title += data.strip()


def read_page(text: str, url: str) -> Page:
    """Return what of the page ``text``, fetched from ``url``, a headless login needs."""
    reader = _Reader(url)
    reader.feed(text)
    reader.close()
    return reader.page
