"""Make the TLS contexts of servers and clients, and make them anew when files change.

The loops do the encrypting (and `tlssocket` for blocking clients); here is what they are told:
which certificates, whom to trust, what to refuse.

Rules of the room:
  * settings start from `ssl.create_default_context`; what is weaker has a name that says so;
  * a certificate that can't be loaded never replaces one that works;
  * passwords stand in no text that this module makes.
"""

import contextlib
import os
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

from fastrpc.errors import ConfigError
from fastrpc.transport.lastwords import ServerContext

#: What peers of ours call the protocol while they agree on encryption.
ALPN_FASTRPC: Final = "fastrpc/1"

#: What they call it where the connection begins as HTTP.
ALPN_HTTP: Final = "http/1.1"

#: The value of `verify` with which a client believes anybody.
INSECURE: Final = "insecure_nobody"

#: Seconds between two looks at the files.
LOOK_INTERVAL: Final = 1.0

#: Seconds for a peer to answer the end of an encrypted connection; then it is cut.
SHUTDOWN_TIMEOUT: Final = 5.0

_HANDSHAKES_MAX: Final = 65_536
_SERVER_NAME: Final = re.compile(r"[^\s\x00-\x20\x7f/?#@\[\]%\\]{1,255}")

Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How a server or a client encrypts, whom it trusts, and who it is itself.

    Attributes:
        cert: File with the own certificate and those between it and the authority, PEM.
        key: File with its key; by default it stands in *cert*, too.
        password: Of the key, if it is encrypted.
        ca: File with the authorities to trust, PEM. For a client, None means those of the
            system. For a server, None means that clients need no certificate.
        client_cert: Of a server with *ca*: "required", or "optional" for clients that may
            come without one. One that is shown is always checked.
        server_name: Of a client: the name that the server's certificate must have, if
            it is not the host of the target.
        verify: Of a client: "full", or "insecure_nobody" to believe anybody who answers.
            Then who sits in between reads and changes everything.
        handshake_timeout: Of a server: seconds until the first byte must have come, and
            for the handshake that follows.
        max_handshakes: Of a server: handshakes under way at once; more wait unread, and
            as long as some do, a handshake gets 2 s.
        max_waiting: Of a server: connections that wait, for their first byte or in that
            line; with more, the oldest is closed.
        context: A context of your own; then the files, `ca` and `verify` are its business.
    """

    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | os.PathLike[str] | None = None
    client_cert: Literal["required", "optional"] = "required"
    server_name: str | None = None
    verify: Literal["full", "insecure_nobody"] = "full"
    handshake_timeout: float = 10.0
    max_handshakes: int = 128
    max_waiting: int = 256
    context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in ("cert", "key", "ca"):
            if not isinstance(getattr(self, name), str | os.PathLike | None):
                raise ConfigError(f"tls: {name} must be a path, got {getattr(self, name)!r}")
        if not isinstance(self.password, str | None):
            raise ConfigError(f"tls: password must be text, got {type(self.password).__name__}")
        if self.client_cert not in ("required", "optional"):
            raise ConfigError(
                f"tls: client_cert must be 'required' or 'optional', got {self.client_cert!r}"
            )
        if self.verify not in ("full", INSECURE):
            raise ConfigError(f"tls: verify must be 'full' or {INSECURE!r}, got {self.verify!r}")
        name_given: object = self.server_name  # whatever people give in spite of the annotation
        is_name = isinstance(name_given, str) and _SERVER_NAME.fullmatch(name_given)
        if name_given is not None and not is_name:
            raise ConfigError(f"tls: server_name must be a host name, got {name_given!r}")
        _check_seconds(self.handshake_timeout)
        for name in ("max_handshakes", "max_waiting"):
            count = getattr(self, name)
            if type(count) is not int or not 1 <= count <= _HANDSHAKES_MAX:
                raise ConfigError(f"tls: {name} must be 1 to {_HANDSHAKES_MAX}, got {count!r}")
        self._check_together()

    def _check_together(self) -> None:
        if self.cert is None and (self.key is not None or self.password is not None):
            raise ConfigError("tls: key and password need a cert")
        if self.client_cert == "optional" and self.ca is None:
            raise ConfigError("tls: client_cert='optional' needs a ca to check the others against")
        if self.verify == INSECURE and self.ca is not None:
            raise ConfigError(f"tls: ca and verify={INSECURE!r} exclude each other")
        if self.context is None:
            return
        if not isinstance(self.context, ssl.SSLContext):
            raise ConfigError(f"tls: context must be an SSLContext, got {self.context!r}")
        for name in ("cert", "key", "password", "ca"):
            if getattr(self, name) is not None:
                raise ConfigError(f"tls: {name} and context exclude each other")
        if self.verify != "full":
            raise ConfigError("tls: verify and context exclude each other")


def _check_seconds(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
        raise ConfigError(f"tls: handshake_timeout must be up to 3600 s, got {seconds!r}")


class _Contexts:
    """A context that is made anew when its files change."""

    def __init__(
        self, options: TlsOptions, on_failure: Callable[[ConfigError], None] | None = None
    ) -> None:
        if not isinstance(options, TlsOptions):
            raise ConfigError(f"tls must be TlsOptions, got {type(options).__name__}")
        self.options = options
        self.on_failure = on_failure
        self._looked_at = 0.0
        self._seen = self._stamps()
        self._context = options.context or self._load()

    def context(self, now: float) -> ssl.SSLContext:
        """Return the context for a new handshake at *now*.

        The files are looked at once a second at most. If one changed and can't be loaded,
        the context stays as it is, and `on_failure` is told once.
        """
        if self.options.context is None and not 0 <= now - self._looked_at < LOOK_INTERVAL:
            self._looked_at = now
            stamps = self._stamps()
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._context = self._load()
                except ConfigError as error:
                    if self.on_failure is not None:
                        self.on_failure(error)
        return self._context

    def reload(self) -> None:
        """Load the files now; connections that are open are not disturbed.

        Raises:
            ConfigError: They can't be used; the ones in force stay.
        """
        if self.options.context is None:
            self._seen = self._stamps()
            self._context = self._load()

    def _stamps(self) -> Stamps:
        return tuple(map(_stat, (self.options.cert, self.options.key, self.options.ca)))

    def _load(self) -> ssl.SSLContext:
        raise NotImplementedError


@final
class ServerTls(_Contexts):
    """What the listeners of a server encrypt with.

    Args:
        options: Certificate, trust and limits.
        on_failure: Told when changed files can't be loaded.
        on_refused: Told of each client that did not get in: its address, and why.
    """

    def __init__(
        self,
        options: TlsOptions,
        on_failure: Callable[[ConfigError], None] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        super().__init__(options, on_failure)
        self.on_refused = on_refused
        for name, usual in (("server_name", None), ("verify", "full")):
            if getattr(options, name) != usual:
                raise ConfigError(f"tls: {name} is for clients")
        if self._context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ConfigError("tls: context is a client's")

    def _load(self) -> ssl.SSLContext:
        options = self.options
        if options.cert is None:
            raise ConfigError("tls: a server needs a cert")
        context = ServerContext.by_default()
        _restrict(context, (ALPN_FASTRPC, ALPN_HTTP))
        _load_chain(context, options)
        if options.ca is not None:
            try:
                context.load_verify_locations(cadata=_read(options.ca))
            except ssl.SSLError as error:
                raise ConfigError(f"tls: ca {options.ca} can't be used ({error.reason})") from None
            required = options.client_cert == "required"
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context


@final
class ClientTls(_Contexts):
    """What the connections of a client encrypt with.

    Args:
        options: Trust, and the own certificate; by default the system's authorities and none.
        alpn: What to call the protocol.
        on_failure: Told when changed files can't be loaded.
    """

    def __init__(
        self,
        options: TlsOptions | None = None,
        alpn: Sequence[str] = (ALPN_FASTRPC,),
        on_failure: Callable[[ConfigError], None] | None = None,
    ) -> None:
        self._alpn = alpn
        super().__init__(options if options is not None else TlsOptions(), on_failure)
        if self.options.client_cert != "required":
            raise ConfigError("tls: client_cert is for servers")
        if self._context.protocol is ssl.PROTOCOL_TLS_SERVER:
            raise ConfigError("tls: context is a server's")

    def name_for(self, host: str) -> str:
        """Return the name that the certificate of *host* must have."""
        return self.options.server_name or host

    def _load(self) -> ssl.SSLContext:
        options = self.options
        # Who names an authority trusts no other: the system's come in only without.
        trusted = _read(options.ca) if options.ca is not None else None
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=trusted)
        except ssl.SSLError as error:
            raise ConfigError(f"tls: ca {options.ca} can't be used ({error.reason})") from None
        if options.verify == INSECURE:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _restrict(context, self._alpn)
        if options.cert is not None:
            _load_chain(context, options)
        return context


def _stat(path: str | os.PathLike[str] | None) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        if path is not None:
            seen = os.stat(path)
            return seen.st_mtime_ns, seen.st_size, seen.st_ino
    return None


def _restrict(context: ssl.SSLContext, alpn: Sequence[str]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(alpn))


def _load_chain(context: ssl.SSLContext, options: TlsOptions) -> None:
    assert options.cert is not None
    for name in ("cert", "key"):
        if (path := getattr(options, name)) is not None:
            _read(path, name)  # for an error that names the file
    password = options.password or ""
    try:
        # Always a password: without one OpenSSL asks at the terminal, and the loop waits.
        context.load_cert_chain(options.cert, options.key, lambda: password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"tls: {_chain_trouble(error, options)}") from None


def _chain_trouble(error: Exception, options: TlsOptions) -> str:
    reason = getattr(error, "reason", None) or str(error)
    key = os.fspath(options.key or options.cert or "")
    if "MISMATCH" in reason:
        return f"key {key} does not belong to cert {os.fspath(options.cert or '')}"
    # OpenSSL's words for a wrong password differ from one cipher to the next.
    if "ENCRYPTED" in _read(key, "key"):
        wrong = "missing" if options.password is None else "wrong"
        return f"key {key} is encrypted, and the password is {wrong}, or it is damaged"
    return f"cert {os.fspath(options.cert or '')} or its key can't be used ({reason})"


def _read(path: str | os.PathLike[str], name: str = "ca") -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"tls: {name} {os.fspath(path)}: {error.strerror}") from None
    if "-----BEGIN" not in text:
        raise ConfigError(f"tls: {name} {os.fspath(path)} has nothing in PEM format")
    return text


# Failures in words

_WORDS: Final = {
    "CERTIFICATE_REQUIRED": "the server demands a client certificate",
    "ALERT_UNKNOWN_CA": "the peer does not trust the authority of our certificate",
    "ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "ALERT_CERTIFICATE_REVOKED": "the peer says that our certificate is revoked",
    "ALERT_BAD_CERTIFICATE": "the peer takes our certificate for bad",
    "ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept our kind of certificate",
    "ALERT_PROTOCOL_VERSION": "no TLS version in common",
    "UNSUPPORTED_PROTOCOL": "no TLS version in common",
    "NO_PROTOCOLS_AVAILABLE": "no TLS version in common",
    "NO_SHARED_CIPHER": "no cipher in common",
    "ALERT_HANDSHAKE_FAILURE": "the peer refuses the handshake",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has no certificate",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "HTTP_REQUEST": "the peer does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the peer does not speak TLS",
    "RECORD_LAYER_FAILURE": "the peer does not speak TLS",
    "UNEXPECTED_EOF": "closed in the middle of the handshake",
}


def explain_tls(error: ssl.SSLError) -> str:
    """Return *error* in words that say which side did not like what."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = str(error.verify_message).rstrip(".")
        return f"TLS: the certificate of the peer is not accepted: {why}"
    if isinstance(error, ssl.SSLEOFError):
        return "TLS: closed in the middle of the handshake"
    reason = error.reason or ""
    for part, words in _WORDS.items():
        if part in reason:
            return f"TLS: {words} ({reason})"
    return f"TLS: {reason or error}"
