"""Check who a certificate says its owner is, and that unchecked ones say nothing."""

import dataclasses
import ssl
from datetime import UTC, datetime

import pytest

from fastrpc.call import Identity, read_identity
from tests.transport import certs


def ends(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the server's and the client's end after a handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(there, back, server_side=True)
    asking = client.wrap_bio(back, there, server_hostname="localhost")
    assert read_identity(accepting) is None, "the handshake has not begun"
    for _ in range(4):
        for end in (asking, accepting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return accepting, asking


def test_a_checked_certificate_is_an_identity() -> None:
    cert = certs.issue("bob@example.org", "*.bob.test", "10.1.2.3", common_name="bob")
    accepting, asking = ends(
        certs.server_tls(ca=certs.ca()).context(0), certs.client_tls(cert=cert).context(0)
    )
    found = read_identity(accepting)
    assert found is not None
    assert found.common_name == "bob"
    assert found.dns_names == ("*.bob.test",)
    assert found.emails == ("bob@example.org",)
    assert found.ip_addresses == ("10.1.2.3",)
    assert found.uris == ()
    assert len(found.fingerprint) == 64
    assert int(found.fingerprint, 16)
    assert int(found.serial, 16)
    assert found.not_after > datetime.now(UTC)
    assert found.issuer == "ours"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.common_name = "eve"  # type: ignore[misc]
    server = read_identity(asking)
    assert server is not None
    assert "localhost" in server.dns_names, "a client knows its server the same way"


def test_names_of_services() -> None:
    from cryptography import x509
    from cryptography.x509 import UniformResourceIdentifier

    assert x509 is not None
    assert UniformResourceIdentifier("spiffe://example.org/billing").value.startswith("spiffe")
    shown = {
        "subject": (),
        "issuer": ((("organizationName", "Example"),),),
        "subjectAltName": (("URI", "spiffe://example.org/billing"), ("DNS", "a"), ("DNS", "b")),
        "notAfter": "Jan  1 00:00:00 2040 GMT",
    }

    class End(ssl.SSLObject):
        def __new__(cls) -> "End":
            return object.__new__(cls)

        def __init__(self) -> None:
            pass

        def getpeercert(self, binary_form: bool = False) -> object:  # type: ignore[override]
            return b"whole" if binary_form else shown

    found = read_identity(End())
    assert found is not None
    assert found.uris == ("spiffe://example.org/billing",)
    assert found.dns_names == ("a", "b")
    assert (found.common_name, found.issuer, found.serial) == ("", "Example", "")


@pytest.mark.parametrize("end", [None, "text", 3])
def test_no_encryption_no_identity(end: object) -> None:
    assert read_identity(end) is None


def test_what_nobody_has_checked_is_no_identity() -> None:
    accepting, asking = ends(
        certs.server_tls().context(0), certs.client_tls(cert=certs.client_cert()).context(0)
    )
    assert read_identity(accepting) is None
    assert isinstance(read_identity(asking), Identity)
    from fastrpc.transport import ClientTls, TlsOptions

    believer = ClientTls(TlsOptions(verify="insecure_nobody")).context(0)
    _, asking = ends(certs.server_tls().context(0), believer)
    assert read_identity(asking) is None
