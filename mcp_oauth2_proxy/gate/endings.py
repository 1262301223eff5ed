"""Sessions that ended before their tokens expire: by a logout at Keycloak, or by a revocation. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen, validators

#: Most endings known at once, about 20 MB; a realm of a million people has a few thousand logouts an hour.
MAX_ENDINGS = 100_000
#: Longest name of a session or subject in characters; Keycloak's have 36.
MAX_NAME = 256


@frozen
class Ending:
    """Tokens issued until ``at`` are worth nothing: those of ``session``, else all those of ``subject``.

    ``at`` is seconds since the epoch. Whoever logs in again gets tokens of a later time, under the same
    session name even where Keycloak ended only this proxy's share of the session. ``offline`` says that
    refresh tokens of offline access end too (OpenID Connect Back-Channel Logout 1.0 section 2.7).
    """

    session: str | None = field(default=None, validator=validators.optional(validators.max_len(MAX_NAME)))
    subject: str | None = field(default=None, validator=validators.optional(validators.max_len(MAX_NAME)))
    at: float = field(kw_only=True)
    offline: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.session is None and self.subject is None:
            raise ValueError("an ending needs a session or a subject")


def _keys(ending: Ending) -> list[tuple[str, str]]:
    """Return by what the tokens that ``ending`` ends are looked up."""
    if ending.session is not None:
        kind, name = "session", ending.session
    else:
        kind, name = "subject", ending.subject or ""
    return [(kind, name), *([(f"offline {kind}", name)] if ending.offline else [])]


class Endings:
    """What has ended within the last ``remember`` seconds; at most ``most``, of which the latest stay.

    ``moments`` is empty while nothing has ended: then nothing needs to be asked.
    """

    def __init__(self, *, remember: float, most: int = MAX_ENDINGS) -> None:
        self.remember = remember
        self._most = most
        #: Until when tokens have ended, by what they are looked up by.
        self.moments: dict[tuple[str, str], float] = {}

    def add(self, ending: Ending, now: float) -> bool:
        """Take in ``ending``; return whether it was news."""
        if ending.at + self.remember <= now or self.has(ending):
            return False
        for key in _keys(ending):
            self.moments[key] = max(ending.at, self.moments.get(key, ending.at))
        return True

    def has(self, ending: Ending) -> bool:
        """Return whether all that ``ending`` says is known."""
        return all(self.moments.get(key, float("-inf")) >= ending.at for key in _keys(ending))

    def __iter__(self) -> Iterator[Ending]:
        """Yield endings that say all that is known."""
        for (kind, name), at in self.moments.items():
            offline, _, what = kind.rpartition(" ")
            yield Ending(**{what: name}, at=at, offline=offline != "")

    def forget(self, now: float) -> int:
        """Drop what is remembered no longer; return how many had to go before their time."""
        gone = now - self.remember
        for key in [key for key, at in self.moments.items() if at <= gone]:
            del self.moments[key]
        over = max(0, len(self.moments) - self._most)
        if over:
            for key in sorted(self.moments, key=self.moments.__getitem__)[:over]:
                del self.moments[key]
        return over

    def ended(
        self, session: str | None, subject: str | None, issued_at: float | None, *, offline: bool = False
    ) -> bool:
        """Return whether a token has ended that was issued at ``issued_at`` (``None``: nobody knows when).

        ``offline`` is for refresh tokens of offline access, which most logouts leave alone.
        """
        prefix = "offline " if offline else ""
        for kind, name in (("session", session), ("subject", subject)):
            if name is not None:
                at = self.moments.get((prefix + kind, name))
                if at is not None and (issued_at is None or issued_at <= at):
                    return True
        return False
