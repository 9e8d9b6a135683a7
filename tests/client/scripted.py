"""A server that is played by hand, in a thread: it says what a test wants it to say."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.protocol import Option, decode_option, encode_option, encode_refusal, negotiate
from fastrpc.wire import Kind, Serializer, StatusCode


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number  # counted from 0
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    def read(self) -> Frame:
        """Return the next frame; EOFError at the end."""
        while not self._frames:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def read_call(self) -> Frame:
        """Return the next call; others are skipped."""
        while True:
            frame = self.read()
            if frame.kind == Kind.CALL and not frame.heartbeat:
                return frame

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def frame(self, kind: int, id: int = 0, **fields: Any) -> None:
        self.write(encode_frame(kind, id, **fields))

    def answer(self, **changes: Any) -> bytes:
        """Read HELLO and return a right answer to it, but for *changes*."""
        asked = decode_option(self.read().payload, False)
        mine = Option(codecs={"raw": 0, "msgpack": 1, "json": 2}, agent="by hand", instance="x")
        agreed = negotiate(asked, mine)
        fields = {name: getattr(agreed, name) for name in Option.__dataclass_fields__}
        payload = encode_option(Option(**(fields | changes)), True)
        return encode_frame(Kind.HELLO, 0, reply=True, serializer=Serializer.JSON, payload=payload)

    def hello(self, **changes: Any) -> None:
        """Exchange HELLO."""
        self.write(self.answer(**changes))

    def reply(self, call: Frame, payload: bytes = b"\xc0", **fields: Any) -> None:
        """Answer a call, with None if nothing else is given."""
        fields = {"serializer": Serializer.MSGPACK} | fields
        self.frame(Kind.CALL, call.id, reply=True, payload=payload, **fields)

    def goaway(self, last: int, status: int = StatusCode.UNAVAILABLE, **fields: Any) -> None:
        self.frame(Kind.GOAWAY, last, status=status, **fields)

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def until_end(self) -> None:
        """Read until the client has closed."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.read()


class Scripted:
    """A listening socket whose connections are played by *play*, each in a thread."""

    def __init__(self, play: Callable[[Peer], None]) -> None:
        self._play = play
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.target = f"tcp://{host}:{port}"
        self.connections = 0
        self.failures: list[BaseException] = []
        self._peers: list[Peer] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock, self.connections)
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(peer,))
            self._peers.append(peer)
            self._threads.append(thread)
            thread.start()

    def _run(self, peer: Peer) -> None:
        try:
            with peer.sock:
                self._play(peer)
        except (EOFError, ConnectionError):
            pass
        except BaseException as exc:
            self.failures.append(exc)

    @property
    def alive(self) -> int:
        """How many connections this side has not closed."""
        return sum(peer.sock.fileno() >= 0 for peer in self._peers)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        assert self.failures == []


@contextlib.contextmanager
def scripted(play: Callable[[Peer], None]) -> Iterator[Scripted]:
    server = Scripted(play)
    try:
        yield server
    finally:
        server.close()


def silent(peer: Peer) -> None:
    peer.until_end()


def closing(peer: Peer) -> None:
    peer.read()


def resetting(peer: Peer) -> None:
    peer.read()
    peer.reset()


def http(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.write(b"HTTP/1.1 400 Bad Request\r\nServer: other\r\nContent-Length: 0\r\n\r\n")
    peer.until_end()


def refusal(status: StatusCode, words: str) -> Callable[[Peer], None]:
    """Return a server that answers HELLO with *status* and waits for the end."""

    def play(peer: Peer) -> None:
        peer.read()
        peer.frame(
            Kind.HELLO, reply=True, serializer=Serializer.JSON, status=status,
            payload=encode_refusal(words),
        )  # fmt: skip
        peer.until_end()

    return play


refusing = refusal(StatusCode.UNSUPPORTED, "we speak another version")
barring = refusal(StatusCode.UNAUTHENTICATED, "who are you?")
full = refusal(StatusCode.UNAVAILABLE, "come back later")


def leaving(peer: Peer) -> None:
    peer.read()
    peer.goaway(0)
    peer.until_end()


def forging(peer: Peer) -> None:
    peer.hello(nonce="of another connection")
    peer.until_end()


def talking(peer: Peer) -> None:
    peer.read()
    peer.frame(Kind.CALL, 1, reply=True)
    peer.until_end()


def babbling(peer: Peer) -> None:
    peer.read()
    peer.frame(Kind.HELLO, reply=True, serializer=Serializer.JSON, payload=b"{]")
    peer.until_end()


#: Patience for a server that says nothing; the others are seen through sooner.
PATIENCE = 0.5

#: What is wrong with a server -> (how it is played, the error, words of its message)
WRONG: dict[str, tuple[Callable[[Peer], None], str, str]] = {
    "silent": (silent, "ConnectFailed", r"connected, but no HELLO within 0\.\d s"),
    "closes": (closing, "ConnectFailed", "closed before HELLO was answered"),
    "resets": (resetting, "ConnectFailed", "closed before HELLO was answered"),
    "http": (http, "ProtocolError", r"is no fastrpc server; it says 'HTTP/1\.1 400 Bad Request'"),
    "refuses": (refusing, "Unsupported", "refused the connection: we speak another version"),
    "bars": (barring, "Unauthenticated", "refused the connection: who are you?"),
    "full": (full, "ConnectFailed", "refused the connection: come back later"),
    "leaves": (leaving, "ConnectionDraining", "shutting down"),
    "forges": (forging, "ProtocolError", "nonce is not the one sent"),
    "talks": (talking, "ProtocolError", "the first frame of a connection must be HELLO"),
    "babbles": (babbling, "ProtocolError", "HELLO: body is not JSON"),
}
