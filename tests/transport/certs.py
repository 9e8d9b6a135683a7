"""Certificates for tests: an authority, those it has issued, and some that are wrong."""

import atexit
import functools
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from fastrpc.transport import ClientTls, ServerTls, TlsOptions


@functools.cache
def authority(name: str = "ours") -> trustme.CA:
    return trustme.CA(organization_name=name)


@functools.cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="certs"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@functools.cache
def ca(name: str = "ours") -> str:
    """Return the file of an authority's certificate."""
    path = folder() / f"ca-{name}.pem"
    authority(name).cert_pem.write_to_path(str(path))
    return str(path)


@functools.cache
def issue(*names: str, by: str = "ours", expired: bool = False, common_name: str = "") -> str:
    """Return a new file with key and certificate."""
    more: dict[str, Any] = {"common_name": common_name} if common_name else {}
    if expired:
        now = datetime.now(UTC)
        more |= {"not_before": now - timedelta(days=9), "not_after": now - timedelta(days=2)}
    made = authority(by).issue_cert(*names, **more)
    path = folder() / f"{len(list(folder().iterdir()))}.pem"
    made.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def server_cert() -> str:
    return issue("127.0.0.1", "localhost", "::1", "server.test")


def client_cert() -> str:
    return issue("bob@example.org", "bob.test", common_name="bob")


def server_tls(**options: Any) -> ServerTls:
    return ServerTls(TlsOptions(**{"cert": server_cert(), **options}))


def client_options(**options: Any) -> TlsOptions:
    return TlsOptions(**{"ca": ca(), **options})


def client_tls(**options: Any) -> ClientTls:
    return ClientTls(client_options(**options))
