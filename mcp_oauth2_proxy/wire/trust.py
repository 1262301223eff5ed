"""Whom TLS trusts on the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

_PEM_END = b"-----END CERTIFICATE-----"


@implementer(IPolicyForHTTPS)
class TrustPolicy:
    """The platform's CAs, or exactly those of a PEM file; names are always checked, ALPN offers nothing.

    Without ALPN a peer speaks HTTP/1.1, which is what both sides here can.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._trust = (
            platformTrust() if ca_file is None else trustRootFromCertificates(_certificates(ca_file))
        )

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """See :class:`IPolicyForHTTPS`."""
        return optionsForClientTLS(hostname.decode("ascii"), trustRoot=self._trust)


def _certificates(ca_file: str) -> list[Certificate]:
    """Return the certificates of a PEM file; whatever else is in it, comments above all, is skipped.

    :raises ValueError: there is none in it, or one that cannot be read.
    """
    blocks = Path(ca_file).read_bytes().split(_PEM_END)[:-1]
    if not blocks:
        raise ValueError(f"{ca_file} holds no certificate")
    try:
        return [Certificate.loadPEM(block + _PEM_END) for block in blocks]
    except crypto.Error as error:
        raise ValueError(f"{ca_file} holds a certificate that cannot be read") from error
