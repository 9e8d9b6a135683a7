"""Hold the options of what a server says in HTTP.

They stand here and not beside the code that speaks HTTP because that is loaded only when
somebody asks for it, and options have to be right from the start.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastrpc.errors import ConfigError

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_HOST: Final = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{16,1024}")
_COUNTS: Final = {"max_head": 2**20, "max_headers": 2**10, "max_target": 2**20}
_TIMES: Final = ("keep_alive", "silence")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How a server behaves towards those who speak HTTP; `Server(http=...)` takes it.

    Attributes:
        origins: Pages of which other sites may call, such as "https://app.example.com",
            in a browser; ("*",) for all of them. What is not listed, and is no page of this
            server's own, is refused before anything runs.
        hosts: Names this server has where it listens for its own machine only. There a
            request must name localhost, an IP address or one of these: a page can make its
            own name point to 127.0.0.1. A public listener takes any name unless some are
            listed here.
        max_head: Most bytes of request line and headers.
        max_headers: Most headers of a request.
        max_target: Most bytes of path and query.
        keep_alive: Seconds a connection may do nothing between two requests.
        max_requests: Most requests on one connection; with the last it is closed.
        silence: Seconds of silence on a stream after which an empty line says that we are
            still there.
        title: What the OpenAPI document is called.
        debug_token: Who asks for the debug page has to know it, 16 characters at least; ""
            lets everyone in who comes to a listener where the page is open.
    """

    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    max_head: int = 8 * 2**10
    max_headers: int = 64
    max_target: int = 4 * 2**10
    keep_alive: float = 75.0
    max_requests: int = 10_000
    silence: float = 15.0
    title: str = "fastrpc"
    debug_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_texts("origins", self.origins, _ORIGIN, "https://app.example.com", "*")
        _check_texts("hosts", self.hosts, _HOST, "rpc.example.com")
        for name, most in {**_COUNTS, "max_requests": 2**53}.items():
            value: Any = getattr(self, name)
            if type(value) is not int or not 0 < value <= most:
                text = f"http: {name} must be a whole number from 1 to {most}, got {value!r}"
                raise ConfigError(text)
        for name in _TIMES:
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 2**31:
                raise ConfigError(f"http: {name} must be seconds above 0, got {value!r}")
        if type(self.title) is not str:
            raise ConfigError(f"http: title must be text, got {self.title!r}")
        token: Any = self.debug_token
        if type(token) is not str or (token and not _TOKEN.fullmatch(token)):
            raise ConfigError("http: debug_token must be 16 or more letters, digits or -._~")


def _check_texts(name: str, values: Any, shape: re.Pattern[str], example: str, *more: str) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        text = f"http: {name} must be several, such as ({example!r},), got {values!r}"
        raise ConfigError(text)
    for value in values:
        if value not in more and not (isinstance(value, str) and shape.fullmatch(value)):
            text = f"http: {name} must be as {example!r}, in lower case, got {value!r}"
            raise ConfigError(text)
