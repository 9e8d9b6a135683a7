"""Ask one thing in HTTP, and read the head of the answer and not a byte more.

What follows the head belongs to somebody else: the peer behind a proxy, or the protocol that
an upgrade led to. So the reader says how many bytes are its own before anybody takes them.

Rules of the room:
  * sans-I/O: bytes in, numbers out; the library h11 does the parsing;
  * a head has a largest size and a most lines, whoever sends it.
"""

import contextlib
import importlib
import re
from typing import Any, Final, NamedTuple, final

from fastrpc.errors import ConfigError
from fastrpc.transport.address import Target, join_host
from fastrpc.version import __version__

#: Most bytes of an answer's head, those of 1xx before it included.
HEAD_MAX: Final = 8192

#: Most header lines in it.
HEADERS_MAX: Final = 64

#: What a connection goes on as after an upgrade.
UPGRADE_NAME: Final = "fastrpc"

_END: Final = re.compile(rb"\n\r?\n")  # as h11 has it
_HOST: Final = re.compile(r"[!-~]{1,255}")
_QUOTED: Final = 64


class BadAnswer(Exception):
    """What came is not the answer that was hoped for; the text says why.

    Args:
        why: In words.
        http_status: The answer's, if it has one.
    """

    def __init__(self, why: str, http_status: int = 0) -> None:
        super().__init__(why)
        self.http_status = http_status


class Answer(NamedTuple):
    """The head of an answer."""

    status: int
    reason: str
    headers: dict[str, str]

    def __str__(self) -> str:
        """Tell status and reason."""
        return f"{self.status} {self.reason}".rstrip()

    @property
    def is_redirect(self) -> bool:
        """Whether it points somewhere else."""
        return 300 <= self.status < 400


@final
class HeadReader:
    """One request, and the reader of its answer.

    Args:
        method: Such as "GET".
        target: What is asked for.
        host: Value of the header of that name.
        headers: More of them.

    Attributes:
        request: What to send.
        answer: The head, once it has come whole.
    """

    def __init__(self, method: str, target: str, host: str, headers: list[tuple[str, str]]) -> None:
        # Here: who dials without HTTP shall not pay for the library.
        h11 = self._h11 = importlib.import_module("h11")
        self._parser: Any = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)
        usual = [("Host", host), ("User-Agent", f"fastrpc/{__version__}")]
        try:
            asked = h11.Request(method=method, target=target, headers=[*usual, *headers])
            self.request = self._parser.send(asked) or b""
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise ConfigError(f"{host!r} can't stand in a request ({error})") from None
        self._parser.send(h11.EndOfMessage())
        self._head = b""
        self._size = 0
        self.answer: Answer | None = None

    def take(self, data: bytes) -> int:
        """Read of *data* what belongs to the head; return how many bytes that is.

        Raises:
            BadAnswer: It is no HTTP, or too much of it.
        """
        taken = 0
        while self.answer is None and taken < len(data):
            seen = len(self._head)
            self._head += data[taken:]
            end = _END.search(self._head, max(seen - 2, 0))
            size = end.end() if end else len(self._head)
            taken += size - seen
            if self._size + size > HEAD_MAX:
                raise BadAnswer(f"the head of its answer is over {HEAD_MAX} bytes")
            self._parse(self._head[seen:size])
            self._head = self._head[:size]
            if end:
                self._size += size
                self._head = b""
        return taken

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except self._h11.RemoteProtocolError as error:
            shown = self._head[:_QUOTED].split(b"\r\n")[0].decode("latin-1")
            raise BadAnswer(f"it says {shown!r}, which is no HTTP ({error})") from None
        if isinstance(event, self._h11.Response | self._h11.InformationalResponse):
            if len(event.headers) > HEADERS_MAX:
                raise BadAnswer(f"its answer has over {HEADERS_MAX} headers")
            if event.status_code >= 200 or event.status_code == 101:
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in event.headers
                }
                self.answer = Answer(event.status_code, _printable(event.reason), headers)


def _printable(reason: bytes) -> str:
    text = reason[:_QUOTED].decode("latin-1")
    return "".join(letter for letter in text if letter.isprintable())


def ask_upgrade(target: Target) -> HeadReader:
    """Return the request that makes frames of an HTTP connection to *target*."""
    host = join_host(ascii_host(target), target.port)
    headers = [("Connection", "Upgrade"), ("Upgrade", UPGRADE_NAME)]
    return HeadReader("GET", target.path or "/", host, headers)


def refused_upgrade(answer: Answer) -> str:
    """Return why *answer* is no agreement to the upgrade; empty if it is."""
    if answer.status == 101:
        token = answer.headers.get("upgrade", "")
        if token.lower() == UPGRADE_NAME:
            return ""
        return f"it upgrades to {token[:_QUOTED]!r}, not to {UPGRADE_NAME}"
    if answer.is_redirect:
        return f"it answers with a redirect ({answer}), which is not followed"
    return f"it answers {answer}, and not 101: no fastrpc server is behind that path"


def ascii_host(target: Target) -> str:
    """Return the host of *target* as it stands in requests."""
    host = target.host
    if not host.isascii():
        with contextlib.suppress(UnicodeError):
            host = host.encode("idna").decode("ascii")
    if not _HOST.fullmatch(host):  # a line break would be a header of somebody else's making
        raise ConfigError(f"{target.host!r} is no host name")
    return host
