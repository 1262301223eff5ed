"""What is said about a reason for which the proxy refuses something, and the phrases that come again."""

from __future__ import annotations

from attrs import frozen

AGAIN = "Go back to your app and start signing in again."
ADD_AGAIN = "Remove the server in your app and add it again."
WAIT = "Wait a moment and try again."
TELL = "Tell who runs this server, with the reference below."
CLIENTS_FAULT = "The app sent something wrong: update it, or tell who makes it."
BY_ITSELF = "Nothing: the app gets a new token by itself."


@frozen
class Trouble:
    """One reason. ``person`` is for who sits in front of the app, ``operator`` for who runs the proxy."""

    what: str
    person: str
    operator: str
