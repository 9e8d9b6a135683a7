"""Read the head of a HTTP request, and refuse what two readers could understand differently.

The library h11 does the parsing. It is lenient where old peers need it; a server that may
stand behind any proxy must not be, because a request that the proxy and we cut apart in
different places lets one client speak in another's name. So what is folded, doubled or
ambiguous is looked for here before, in the bytes as they came.

Rules of the room:
  * sans-I/O: bytes in, a request or a refusal out;
  * each limit has its status: 414 for the target, 431 for the head, 413 for the body;
  * the path is compared as it came, undecoded, so that a proxy's rules see what we see.
"""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

import h11

from fastrpc.server.http import HttpOptions
from fastrpc.wire import StatusCode

#: Most query arguments.
MAX_ARGUMENTS: Final = 256

_END: Final = re.compile(rb"\n\r?\n")  # as h11 has it
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
#: Headers that may come once only: two readers could each take another one.
_SINGLE: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"content-type", b"host", b"origin", b"expect",
     b"content-encoding", b"authorization", b"upgrade"}
)  # fmt: skip
_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_VERSIONS: Final = (b"1.1", b"1.0")


class RefusedError(Exception):
    """A request that is refused before anything runs.

    Args:
        http: Status of HTTP.
        text: What is wrong with it, for people.
        status: Our own status for it.
        headers: What the answer has beside the usual.
    """

    def __init__(
        self,
        http: int,
        text: str,
        status: StatusCode = StatusCode.BAD_REQUEST,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(text)
        self.http = http
        self.text = text
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class Request:
    """The head of a request.

    Attributes:
        method: Such as "POST".
        target: As it came.
        path: As it came, without the query.
        query: As it came, without the "?".
        headers: By name in lower case; of a name that comes twice, joined by ", ".
        raw_headers: As they came.
        version: "1.1" or "1.0".
        length: Declared length of the body; None if it is chunked, 0 if there is none.
    """

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    raw_headers: list[tuple[bytes, bytes]] = field(repr=False)
    version: str = "1.1"
    length: int | None = 0

    @classmethod
    def unread(cls) -> "Request":
        """Return what stands for a request that could not be read to its end."""
        return cls("GET", "", "", "", {}, [], length=None)

    @property
    def has_body(self) -> bool:
        """Whether something follows the head."""
        return self.length != 0

    @property
    def host(self) -> str:
        """Name and port that the asker has for this server."""
        return self.headers.get("host", "")

    def tokens(self, name: str) -> list[str]:
        """Return the words of a header that is a list, in lower case."""
        words = self.headers.get(name, "").split(",")
        return [word for word in (each.strip().lower() for each in words) if word]

    @property
    def media_type(self) -> str:
        """The type of the body, without parameters, "" if it has none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The character set that the type of the body names, "utf-8" if none."""
        found = re.search(r";\s*charset=\"?([^\s;\"]+)", self.headers.get("content-type", ""), re.I)
        return found[1].lower() if found else "utf-8"

    def accepts(self, media_type: str) -> bool:
        """Whether the asker names *media_type* among what it takes, other than by wildcard."""
        return any(each.partition(";")[0].strip() == media_type for each in self.tokens("accept"))

    def arguments(self) -> list[tuple[str, str]]:
        """Return names and values of the query.

        Raises:
            RefusedError: It can't be read, or has too many.
        """
        if not self.query:
            return []
        try:
            return parse_qsl(
                self.query, keep_blank_values=True, strict_parsing=True, errors="strict",
                max_num_fields=MAX_ARGUMENTS,
            )  # fmt: skip
        except ValueError as error:
            raise RefusedError(400, f"the query can't be read: {error}") from None


def decoded(text: str, what: str) -> str:
    """Return a part of a path without its percent signs.

    Raises:
        RefusedError: It is no UTF-8.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RefusedError(400, f"{what} is no UTF-8") from None


def find_head(data: bytearray, start: int, options: HttpOptions) -> int:
    """Return where the head in *data* ends, 0 if the end has not come.

    Args:
        data: What came so far.
        start: Up to where it was looked at before.
        options: Limits.

    Raises:
        RefusedError: It is too long already.
    """
    end = _END.search(data, max(start - 2, 0))
    size = end.end() if end else len(data)
    if size <= min(options.max_head, options.max_target):  # the usual
        return size if end else 0
    line = data.find(b"\n", 0, size)
    if (size if line < 0 else line) > options.max_target + 64:  # with method and version
        text = f"path and query have more than {options.max_target} bytes (max_target)"
        raise RefusedError(414, text, StatusCode.TOO_LARGE)
    if size > options.max_head:
        text = f"the head has more than {options.max_head} bytes (max_head)"
        raise RefusedError(431, text, StatusCode.TOO_LARGE)
    return size if end else 0


def read_head(data: bytes, parser: h11.Connection, options: HttpOptions) -> Request:
    """Return the request that a whole head is.

    Args:
        data: The head with its empty line.
        parser: Fresh; it reads the body afterwards.
        options: Limits.

    Raises:
        RefusedError: It is none, or one that is not served.
    """
    _check_lines(data, options)
    try:
        parser.receive_data(data)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RefusedError(error.error_status_hint, f"no request: {error}") from None
    if not isinstance(event, h11.Request):  # an empty line is all that could be
        raise RefusedError(400, "no request")
    if event.http_version not in _VERSIONS:
        text = f"HTTP/{event.http_version.decode('latin-1')} is not spoken here, but HTTP/1.1"
        raise RefusedError(505, text, StatusCode.UNSUPPORTED)
    return _request(event, options)


def _check_lines(data: bytes, options: HttpOptions) -> None:
    """Refuse a head that another reader could understand differently."""
    if found := _CONTROL.search(data):
        raise RefusedError(400, f"byte {found[0][0]:#04x} can't stand in a head")
    lines = data.split(b"\n")
    del lines[-2:]  # the empty line
    if len(lines) - 1 > options.max_headers:
        text = f"more than {options.max_headers} headers (max_headers)"
        raise RefusedError(431, text, StatusCode.TOO_LARGE)
    # Go's net/rpc clients end their one line so, and it leads to no second request.
    if data.count(b"\r") != data.count(b"\n") and not data.startswith(b"CONNECT "):
        raise RefusedError(400, "lines of a head end in CR LF")
    seen: set[bytes] = set()
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t"):
            raise RefusedError(400, "a header goes on in the next line")
        name = line.partition(b":")[0].lower()
        if name in _SINGLE:
            if name in seen:
                raise RefusedError(400, f"there are two headers {name.decode()}")
            seen.add(name)
            if name == b"content-length" and b"," in line:
                raise RefusedError(400, "content-length is one number")
    if {b"content-length", b"transfer-encoding"} <= seen:
        raise RefusedError(400, "content-length and transfer-encoding: the body has two ends")


def _request(event: h11.Request, options: HttpOptions) -> Request:
    target = event.target.decode("latin-1")
    if len(target) > options.max_target:
        text = f"path and query have more than {options.max_target} bytes (max_target)"
        raise RefusedError(414, text, StatusCode.TOO_LARGE)
    raw = list(event.headers)
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    method, version = event.method.decode("latin-1"), event.http_version.decode("latin-1")
    length: int | None = int(headers.get("content-length", "0"))
    if "transfer-encoding" in headers:
        if version == "1.0":
            raise RefusedError(400, "HTTP/1.0 has no transfer-encoding")
        length = None
    path, _, query = _own_part(method, target, headers).partition("?")
    return Request(method, target, path, query, headers, raw, version, length)


def _own_part(method: str, target: str, headers: dict[str, str]) -> str:
    """Return path and query of a target that is meant for us."""
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return target
    if method == "CONNECT":
        raise RefusedError(405, "this is no proxy: CONNECT takes a path here", headers=_ALLOWED)
    found = _AUTHORITY.match(target)
    if found is None:
        raise RefusedError(400, "the target of a request is a path")
    if found[1].lower() != headers.get("host", "").lower():
        raise RefusedError(421, "this is no proxy: the target names another host")
    rest = target[found.end() :].partition("#")[0]
    return rest if rest.startswith("/") else f"/{rest}"


_ALLOWED: Final = (("Allow", "GET, POST, OPTIONS"),)
