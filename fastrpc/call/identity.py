"""Say who a peer is by the certificate that it has shown.

Only certificates that were checked count: what nobody has vouched for is no identity.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLObject, SSLSocket, cert_time_to_seconds
from typing import Any, final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a checked certificate says of its owner.

    Names of several kinds may stand beside each other; which of them counts is a matter of
    who issues the certificates.

    Attributes:
        common_name: Of the subject; "" if it has none.
        dns_names: Host names, a leading "*." included.
        uris: Such as "spiffe://example.org/billing".
        ip_addresses: As text.
        emails: As text.
        fingerprint: SHA-256 of the whole certificate, in hex.
        serial: Its number, in hex.
        not_after: When it ends.
        issuer: Common name of who issued it, or what it is called else.
    """

    common_name: str
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    fingerprint: str
    serial: str
    not_after: datetime
    issuer: str


def read_identity(end: object) -> Identity | None:
    """Return who is at the other side of *end*, the `ssl_object` of a transport.

    None if it is no encrypted connection, the peer has shown no certificate, or nobody
    has checked it.
    """
    if not isinstance(end, SSLObject | SSLSocket):
        return None
    try:
        shown: dict[str, Any] | None = end.getpeercert()
        whole = end.getpeercert(binary_form=True)
    except ValueError:  # the handshake is not done
        return None
    if not shown or whole is None:
        return None
    names: dict[str, list[str]] = {}
    for kind, value in shown.get("subjectAltName", ()):
        names.setdefault(kind, []).append(value)
    return Identity(
        common_name=_named(shown.get("subject", ()), "commonName"),
        dns_names=tuple(names.get("DNS", ())),
        uris=tuple(names.get("URI", ())),
        ip_addresses=tuple(names.get("IP Address", ())),
        emails=tuple(names.get("email", ())),
        fingerprint=hashlib.sha256(whole).hexdigest(),
        serial=shown.get("serialNumber", ""),
        not_after=datetime.fromtimestamp(cert_time_to_seconds(shown["notAfter"]), UTC),
        issuer=_named(shown.get("issuer", ()), "commonName", "organizationName"),
    )


def _named(parts: Any, *fields: str) -> str:
    """Return the first of *fields* that a name of X.509 has, however it is nested."""
    found = {key: value for part in parts for key, value in part}
    return next((found[field] for field in fields if field in found), "")
