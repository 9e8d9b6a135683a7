"""Tell a client why its TLS handshake failed.

Rules of the room:
  * what is said is one alert of OpenSSL's, and nobody waits until it is read;
  * a handshake that nobody noted fails as it does everywhere.
"""

import contextlib
import socket
import ssl
from contextvars import ContextVar
from typing import Any, final


@final
class LastWords:
    """Sends the alert of a handshake that failed, for the loops don't.

    asyncio and uvloop leave it in their buffers when they close the connection, and the
    client would see nothing but the end. So a handshake of ours notes its socket here.

    Args:
        sock: Of the connection; None afterwards.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock

    def say(self, alert: bytes) -> None:
        """Send *alert* and no more; what came in is thrown away, so that it arrives."""
        if self.sock is not None and alert:
            with contextlib.suppress(OSError):
                self.sock.send(alert)
                self.sock.shutdown(socket.SHUT_WR)
                self.sock.recv(65_536)
        self.sock = None


#: Those of the handshake that is begun in this context.
last_words: ContextVar[LastWords | None] = ContextVar("last_words", default=None)


@final
class ServerContext(ssl.SSLContext):
    """A server's context whose handshakes say why they fail."""

    @classmethod
    def by_default(cls) -> "ServerContext":
        """Return one with what Python takes for safe."""
        usual = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.options, context.verify_flags = usual.options, usual.verify_flags
        context.sslobject_class = _ServerEnd
        return context

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        """Return an end that has the last words of the handshake that is begun."""
        end = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        if isinstance(end, _ServerEnd):
            end.outgoing, end.words = outgoing, last_words.get()
        return end


@final
class _ServerEnd(ssl.SSLObject):
    """The server's end of one encrypted connection."""

    outgoing: ssl.MemoryBIO | None = None
    words: LastWords | None = None

    def do_handshake(self) -> None:
        """Go on; say why, if it can't."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.words is not None and self.outgoing is not None:
                self.words.say(self.outgoing.read())
            raise
