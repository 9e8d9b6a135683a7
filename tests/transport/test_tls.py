"""Check what is encrypted with: options, settings, files that change, and who is turned away."""

import asyncio
import os
import shutil
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrpc.errors import ConfigError, ConnectFailed, ProxyError
from fastrpc.transport import (
    ClientTls,
    ServerTls,
    TlsOptions,
    client_tls,
    dial,
    dial_blocking,
    listen,
    parse_target,
)
from tests.transport import certs
from tests.transport.ends import Client, Echo, sockets, turn_until

NO_PEM = str(Path(__file__).with_name("ends.py"))


def place(path: Path, source: str, moment: int) -> str:
    """Put a copy of *source* at *path*, as if written at *moment*."""
    shutil.copy(source, path)
    os.utime(path, ns=(moment, moment))
    return str(path)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cert": 3}, "cert must be a path"),
        ({"ca": b"x"}, "ca must be a path"),
        ({"password": 3}, "password must be text, got int"),
        ({"client_cert": "maybe"}, "client_cert must be 'required' or 'optional', got 'maybe'"),
        ({"client_cert": "optional"}, "client_cert='optional' needs a ca"),
        ({"verify": False}, "verify must be 'full' or 'insecure_nobody', got False"),
        ({"verify": "insecure_nobody", "ca": "x"}, "ca and verify='insecure_nobody' exclude"),
        ({"server_name": "a\r\nb"}, "server_name must be a host name"),
        ({"server_name": ""}, "server_name must be a host name"),
        ({"handshake_timeout": 0}, "handshake_timeout"),
        ({"handshake_timeout": True}, "handshake_timeout"),
        ({"max_handshakes": 0}, "max_handshakes must be 1 to 65536, got 0"),
        ({"max_waiting": 1.5}, "max_waiting must be 1 to 65536, got 1.5"),
        ({"key": "x"}, "key and password need a cert"),
        ({"password": "secret"}, "key and password need a cert"),
        ({"context": 3}, "context must be an SSLContext"),
        ({"context": ssl.create_default_context(), "ca": "x"}, "ca and context exclude"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TlsOptions(**options)


def test_no_text_has_the_password() -> None:
    options = TlsOptions(cert=certs.server_cert(), password="hunter2")
    assert "hunter2" not in repr(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a server needs a cert"),
        ({"cert": "/nowhere"}, "cert /nowhere: No such file"),
        ({"cert": NO_PEM}, "cert .*ends.py has nothing in PEM format"),
        ({"server_name": "x"}, "server_name is for clients"),
        ({"context": ssl.create_default_context()}, "context is a client's"),
        ({"ca": "/nowhere"}, "ca /nowhere: No such file"),
    ],
)
def test_what_a_server_can_not_use(options: dict[str, Any], message: str) -> None:
    if "ca" in options or "server_name" in options:
        options = {"cert": certs.server_cert(), **options}
    with pytest.raises(ConfigError, match=message):
        ServerTls(TlsOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca": "/nowhere"}, "ca /nowhere: No such file"),
        ({"ca": NO_PEM}, "ca .*ends.py has nothing in PEM format"),
        ({"ca": "broken"}, "ca .* can't be used"),
        ({"cert": "other", "key": "key"}, "key .* does not belong to cert"),
        ({"cert": "other", "key": "/nowhere"}, "key /nowhere: No such file"),
        ({"cert": "locked"}, "is encrypted, and the password is missing"),
        ({"cert": "locked", "password": "wrong"}, "is encrypted, and the password is wrong"),
        ({"context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "context is a server's"),
    ],
)
def test_what_a_client_can_not_use(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    (tmp_path / "locked").write_text(locked(certs.client_cert(), b"right"))
    (tmp_path / "other").write_text(Path(certs.client_cert()).read_text())
    (tmp_path / "key").write_text(Path(certs.server_cert()).read_text())
    for name, value in options.items():
        if (tmp_path / str(value)).exists() and name != "password":
            options[name] = tmp_path / value
    with pytest.raises(ConfigError, match=message):
        ClientTls(TlsOptions(**options))


def locked(path: str, password: bytes) -> str:
    """Return a certificate's file with its key encrypted."""
    from cryptography.hazmat.primitives import serialization

    whole = Path(path).read_bytes()
    key = serialization.load_pem_private_key(whole, None)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    return (text + whole[whole.index(b"-----BEGIN CERT") :]).decode()


def test_an_encrypted_key_is_opened_by_its_password(tmp_path: Path) -> None:
    (tmp_path / "locked").write_text(locked(certs.client_cert(), b"right"))
    ClientTls(TlsOptions(cert=tmp_path / "locked", password="right"))


def test_the_settings_are_pythons_own_and_stricter() -> None:
    usual = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context = certs.server_tls().context(0)
    assert context.get_ciphers() == usual.get_ciphers()
    assert context.options == usual.options | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    assert context.verify_flags == usual.verify_flags
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    asked = certs.server_tls(ca=certs.ca()).context(0)
    assert asked.verify_mode is ssl.CERT_REQUIRED
    asked = certs.server_tls(ca=certs.ca(), client_cert="optional").context(0)
    assert asked.verify_mode is ssl.CERT_OPTIONAL
    client = certs.client_tls().context(0)
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert client.check_hostname
    assert client.minimum_version is ssl.TLSVersion.TLSv1_2
    assert client.options & ssl.OP_NO_RENEGOTIATION


def test_verification_is_turned_off_by_its_name_alone() -> None:
    context = ClientTls(TlsOptions(verify="insecure_nobody")).context(0)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_who_names_an_authority_trusts_no_other() -> None:
    assert len(certs.client_tls().context(0).get_ca_certs()) == 1


def test_a_context_of_ones_own_is_used_as_it_is() -> None:
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls = ServerTls(TlsOptions(context=own))
    tls.reload()
    assert tls.context(5) is own


def test_what_encrypts_and_what_does_not() -> None:
    options = certs.client_options()
    assert client_tls(parse_target("tcp://a:1"), None) is None
    assert client_tls(parse_target("tls://a:1"), None) is not None
    assert client_tls(parse_target("tcp://a:1"), options) is not None, "asked for, so done"
    for target in ("unix:///s", "mem://s"):
        with pytest.raises(ConfigError, match="nothing is encrypted at"):
            client_tls(parse_target(target), options)


# Files that change


def test_changed_files_are_seen_once_a_second(tmp_path: Path) -> None:
    cert = place(tmp_path / "cert", certs.server_cert(), 1)
    tls = ServerTls(TlsOptions(cert=cert))
    first = tls.context(10.0)
    place(tmp_path / "cert", certs.issue("localhost"), 2)
    assert tls.context(10.9) is first, "looked at a moment ago"
    second = tls.context(11.0)
    assert second is not first
    assert tls.context(20.0) is second, "nothing has changed"


def test_a_broken_change_keeps_the_old_and_is_told_once(tmp_path: Path) -> None:
    told: list[ConfigError] = []
    cert = place(tmp_path / "cert", certs.server_cert(), 1)
    tls = ServerTls(TlsOptions(cert=cert), told.append)
    first = tls.context(10.0)
    (tmp_path / "cert").write_text("half of a certif")
    assert tls.context(12.0) is first
    assert tls.context(14.0) is first
    assert [str(error) for error in told] == [f"tls: cert {cert} has nothing in PEM format"]
    (tmp_path / "cert").unlink()
    assert tls.context(16.0) is first
    assert len(told) == 2, "another breakage is another message"
    place(tmp_path / "cert", certs.server_cert(), 3)
    assert tls.context(18.0) is not first
    assert len(told) == 2


def test_reload_is_at_once_and_raises(tmp_path: Path) -> None:
    cert = place(tmp_path / "cert", certs.server_cert(), 1)
    tls = ServerTls(TlsOptions(cert=cert))
    first = tls.context(10.0)
    place(tmp_path / "cert", certs.issue("localhost"), 2)
    tls.reload()
    second = tls.context(10.1)
    assert second is not first
    (tmp_path / "cert").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        tls.reload()
    assert tls.context(10.2) is second


@pytest.mark.asyncio
async def test_new_connections_see_the_new_certificate_and_old_ones_go_on(tmp_path: Path) -> None:
    cert = place(tmp_path / "cert", certs.server_cert(), 1)
    tls = ServerTls(TlsOptions(cert=cert))
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)

    async def connect() -> tuple[asyncio.Transport, Client, bytes]:
        transport, client = await dial(
            listener.targets[0], Client, timeout=5, tls=certs.client_tls()
        )
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return transport, client, shown

    old, client, before = await connect()
    place(tmp_path / "cert", certs.issue("127.0.0.1"), 2)
    tls.reload()
    new, _, after = await connect()
    assert before != after
    old.write(b"still here")
    assert await client.got == b"still here"
    old.close()
    new.close()
    listener.close()
    await listener.wait_closed()


# Who is turned away: T24


def old_client() -> TlsOptions:
    """A client that knows nothing newer than TLS 1.1."""
    context = ssl.create_default_context(cafile=certs.ca())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return TlsOptions(context=context)


#: What the server's options are, what the client's are, and what the client is told.
MATRIX: dict[str, tuple[dict[str, Any], Callable[[], TlsOptions | None], str]] = {
    "wrong_ca": ({}, lambda: TlsOptions(ca=certs.ca("theirs")), "certificate of the peer is not"),
    "system_cas": ({}, lambda: None, "certificate of the peer is not accepted"),
    "wrong_host": ({}, lambda: certs.client_options(server_name="other.test"), "'other.test'"),
    "expired": (
        {"cert": lambda: certs.issue("127.0.0.1", expired=True)},
        certs.client_options,
        "certificate has expired",
    ),
    "tls_1_1": ({}, old_client, "no TLS version in common"),
    "no_client_cert": ({"ca": certs.ca}, certs.client_options, "demands a client certificate"),
    "untrusted_client_cert": (
        {"ca": certs.ca},
        lambda: certs.client_options(cert=certs.issue("eve@example.org", by="theirs")),
        "does not trust the authority of our certificate",
    ),
    "expired_client_cert": (
        {"ca": certs.ca},
        lambda: certs.client_options(cert=certs.issue("bob@example.org", expired=True)),
        "our certificate has expired",
    ),
    "not_tls_at_all": ({"plain": True}, certs.client_options, "does not speak TLS"),
}


class Plain(asyncio.Protocol):
    """Says something that is no TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"220 mail.example.org ESMTP\r\n")  # type: ignore[attr-defined]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", MATRIX)
async def test_who_is_turned_away_is_told_why(case: str) -> None:
    given, options, words = MATRIX[case]
    refused: list[str] = []
    tls = None
    if not given.get("plain"):
        tls = certs.server_tls(**{name: value() for name, value in given.items()})
        tls.on_refused = lambda _, why: refused.append(why)
    listener = await listen("tcp://127.0.0.1:0", Echo if tls else Plain, tls=tls)
    target = listener.targets[0].replace("tcp:", "tls:")
    before = sockets()
    for told in (await refusal(target, options()), await refusal_blocking(target, options())):
        assert isinstance(told, ConnectFailed | str), told
        assert words in str(told), told
    await turn_until(lambda: sockets() == before)
    if tls is not None:
        assert refused, "the server's log has it, too"
    listener.close()
    await listener.wait_closed()


async def refusal(target: str, options: TlsOptions | None) -> Exception | str:
    """Return why there is no connection, at once or at the first look: TLS 1.3 tells late."""
    try:
        transport, client = await dial(target, Client, timeout=5, tls=options)
    except ConnectFailed as error:
        return error
    lost = await client.lost
    transport.abort()
    from fastrpc.transport import explain_loss

    return explain_loss(lost) if isinstance(lost, Exception) else "no reason"


async def refusal_blocking(target: str, options: TlsOptions | None) -> Exception | str:
    def connect() -> Exception | str:
        try:
            sock = dial_blocking(target, 5.0, tls=options)
        except ConnectFailed as error:
            return error
        try:
            return f"read {sock.recv(1)!r}"
        except OSError as error:
            return str(error)
        finally:
            sock.close()

    return await asyncio.to_thread(connect)


def test_a_proxy_error_is_a_failure_to_connect() -> None:
    assert issubclass(ProxyError, ConnectFailed)
    assert ProxyError("x", 407).http_status == 407
