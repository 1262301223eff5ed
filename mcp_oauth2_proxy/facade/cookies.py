"""The browser's cookies: which browser it is, what it consented to, which logins it has under way.

On https their names begin with ``__Host-``: such a cookie can be set by this host alone, over TLS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from attrs import frozen

from mcp_oauth2_proxy.config.cookies import cookie_prefix
from mcp_oauth2_proxy.facade.errors import SealError
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer, digest

#: Consents one browser remembers, the newest first, and for how many seconds.
MAX_REMEMBERED = 40
REMEMBERED_TTL = 90 * 86400
#: Logins one browser has under way; more are forgotten, the oldest first.
MAX_LOGINS = 8
#: Cookies of one request that are looked at; browsers send some hundred at most.
_MAX_COOKIES = 300

_BROWSER_ID = re.compile(r"[A-Za-z0-9_-]{43}")


def parse_cookies(headers: Sequence[bytes]) -> dict[str, str]:
    """Return the cookies of a request's ``Cookie`` headers; the first of a name counts."""
    found: dict[str, str] = {}
    pairs = b";".join(headers).split(b";", _MAX_COOKIES)[:_MAX_COOKIES]
    for pair in pairs:
        name, mark, value = pair.strip(b" \t").partition(b"=")
        if mark and name:
            found.setdefault(name.decode("latin-1"), value.strip(b' \t"').decode("latin-1"))
    return found


@frozen
class Cookies:
    """The names and attributes of this proxy's cookies."""

    browser: str
    remembered: str
    login_prefix: str
    attributes: str

    @classmethod
    def for_base_url(cls, base_url: str) -> Cookies:
        """Return the cookies of the proxy at ``base_url``."""
        base = urlsplit(base_url)
        secure = base.scheme == "https"
        prefix = cookie_prefix(base_url)
        # __Host- demands Path=/; without it a base URL with a path keeps its cookies to itself.
        path = "/" if secure else (base.path.rstrip("/") or "/")
        return cls(
            browser=f"{prefix}browser",
            remembered=f"{prefix}consent",
            login_prefix=f"{prefix}login-",
            attributes=f"; Path={path}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}",
        )

    def set(self, name: str, value: str, max_age: float | None = None) -> str:
        """Return a ``Set-Cookie`` value; without ``max_age`` (seconds) it ends with the browser."""
        age = "" if max_age is None else f"; Max-Age={int(max_age)}"
        return f"{name}={value}{self.attributes}{age}"

    def browser_id(self, cookies: dict[str, str]) -> str | None:
        """Return the browser's identifier, where it has a well-formed one."""
        value = cookies.get(self.browser, "")
        return value if _BROWSER_ID.fullmatch(value) else None

    def login(self, state: str) -> str:
        """Return the name of the cookie that ties the login of ``state`` to its browser."""
        return self.login_prefix + digest("login cookie", state)[:12]

    def remember(self, value: str) -> str:
        """Return the ``Set-Cookie`` value that keeps the browser's consents."""
        return self.set(self.remembered, value, REMEMBERED_TTL)

    def surplus_logins(self, cookies: dict[str, str]) -> list[str]:
        """Return the login cookies to forget, so that one more stays within :data:`MAX_LOGINS`."""
        # Browsers send older cookies first (RFC 6265 section 5.4).
        logins = [name for name in cookies if name.startswith(self.login_prefix)]
        return logins[: max(0, len(logins) - MAX_LOGINS + 1)]


def remembered_consents(cookie: str | None, sealer: Sealer) -> tuple[str, ...]:
    """Return the consent keys that a browser's cookie carries; a forged or old cookie carries none."""
    if not cookie:
        return ()
    try:
        keys = sealer.open(Purpose.REMEMBERED, cookie, REMEMBERED_TTL).get("c")
    except SealError:
        return ()
    return tuple(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else ()


def remember_consent(cookie: str | None, key: str, sealer: Sealer) -> str:
    """Return the cookie's value with ``key`` added, the newest :data:`MAX_REMEMBERED` kept."""
    others = [known for known in remembered_consents(cookie, sealer) if known != key]
    return sealer.seal(Purpose.REMEMBERED, {"c": [key, *others][:MAX_REMEMBERED]})
