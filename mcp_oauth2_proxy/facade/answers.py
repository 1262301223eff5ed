"""Answers as values: a status, header lines and a body, decided without a connection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, frozen

#: RFC 6749 section 5.1: what carries a token, a code or a state is never kept.
NO_STORE = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_NO_SNIFF = ("X-Content-Type-Options", "nosniff")


@frozen
class Answer:
    """One HTTP answer; ``headers`` are in order and may repeat (``Set-Cookie``)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def with_cookies(self, cookies: Iterable[str]) -> Answer:
        """Return the answer with one ``Set-Cookie`` line for each of ``cookies``."""
        lines = tuple(("Set-Cookie", cookie) for cookie in cookies)
        return evolve(self, headers=self.headers + lines)


def json_answer(
    status: int, document: Mapping[str, Any], extra: Iterable[tuple[str, str]] = NO_STORE
) -> Answer:
    """Return ``document`` as JSON, not to be stored unless ``extra`` says otherwise."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return Answer(status, (("Content-Type", "application/json"), _NO_SNIFF, *extra), body)


def redirect_answer(url: str) -> Answer:
    """Return a 302 to ``url``, which is ASCII; without a referrer, and not to be stored."""
    headers = (("Location", url), *NO_STORE, ("Referrer-Policy", "no-referrer"))
    return Answer(302, headers, b"")


def html_answer(status: int, page: str, policy: str) -> Answer:
    """Return ``page`` under the content security ``policy``, never framed, stored or referred from."""
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        _NO_SNIFF,
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        *NO_STORE,
    )
    return Answer(status, headers, page.encode("utf-8"))
