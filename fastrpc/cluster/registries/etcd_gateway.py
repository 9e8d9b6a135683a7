"""Speak with etcd over its JSON gateway: one question, one answer, or a stream of them.

Whoever asks need not know which of the hosts answers. A host that can't is left for the
next; only an answer that every host would give is one.

Rules of the room:
  * every answer has a limit, and every question a time;
  * a question that may have arrived is counted when its answer does not: who wrote by it
    has to think of it arriving late;
  * errors never show the password, nor what proves it.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

import aiohttp
import msgspec

from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import RegistryLost
from fastrpc.transport import join_host

__all__ = ["Gateway", "Refusal", "TooLong"]

#: Longest answer, and longest piece of a stream. etcd itself takes entries of 1.5 MiB.
ANSWER_MAX: Final = 4 * 1024 * 1024

#: Longest wait for one host while there are others, in seconds.
_ONE_TRY: Final = 1.5

#: Longest text of an error that is repeated.
_TEXT_MAX: Final = 300

#: Numbers of gRPC's statuses.
INVALID, NOT_FOUND, DENIED, PRECONDITION, RANGE, NO_LOGIN = 3, 5, 7, 9, 11, 16

# What aiohttp raises if a connection, or the session, is gone: the last where it was closed
# before somebody read on.
_BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError, RuntimeError)

# Every host would say the same.
_FINAL: Final = frozenset({INVALID, NOT_FOUND, DENIED, PRECONDITION, RANGE, NO_LOGIN})

T = TypeVar("T")

_Json = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that says no.

    Attributes:
        code: Number of gRPC's status.
        text: Why, in etcd's words.
    """

    code: int
    text: str


@final
@dataclass(frozen=True, slots=True)
class TooLong:
    """An answer that was over the limit, and not read to its end."""


class _Problem(msgspec.Struct, frozen=True):
    code: int = 2
    message: str = ""


class _Login(msgspec.Struct, frozen=True):
    token: str = ""


class _ElsewhereError(Exception):
    """This host can't answer; another may."""


@final
class Gateway:
    """The hosts of one etcd.

    Args:
        target: Where they are, and who asks.
        patience: Seconds for one question, whichever hosts it takes.
        tls: How to encrypt, for a secure target; by default as the system trusts.

    Attributes:
        unsure: How many questions may have arrived, and had no answer.
    """

    def __init__(
        self, target: ClusterTarget, patience: float, tls: ssl.SSLContext | None = None
    ) -> None:
        scheme = "https" if target.is_secure else "http"
        self._roots = [f"{scheme}://{join_host(*host)}/v3/" for host in target.hosts]
        self._name = f"etcd {', '.join(join_host(*host) for host in target.hosts)}"
        self._user, self._password = target.user, target.password
        self._ssl = tls if tls is not None else True
        self._patience = patience
        self._at = 0
        self._token = ""
        self._logins = 0
        self._login_lock = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        self.unsure = 0

    @property
    def at(self) -> int:
        """Number of the host that is asked first."""
        return self._at

    def leave(self, at: int) -> None:
        """Ask another than host *at* first from now on."""
        if self._at == at:
            self._at = (at + 1) % len(self._roots)

    async def ask(self, path: str, question: _Json, kind: type[T], at: int = -1) -> T | Refusal:
        """Return the answer to one question.

        Args:
            path: What is asked, such as "kv/range".
            question: In the gateway's JSON.
            kind: What the answer is.
            at: The only host to ask; by default whichever answers.

        Raises:
            RegistryLost: None has answered, or the answer was over the limit.
        """
        answer = await self.ask_long(path, question, kind, at)
        if isinstance(answer, TooLong):
            raise RegistryLost(f"{self._name}: an answer is over {ANSWER_MAX} bytes")
        return answer

    async def ask_long(
        self, path: str, question: _Json, kind: type[T], at: int = -1
    ) -> T | Refusal | TooLong:
        """Do the same, for whoever can ask for less if that was too much."""
        failure = "no time"
        is_alone = at >= 0 or len(self._roots) == 1
        one_try = self._patience if is_alone else min(self._patience / 2, _ONE_TRY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                for _ in self._roots if at < 0 else (at,):
                    host = self._at if at < 0 else at
                    try:
                        return await self._ask_at(host, path, question, kind, one_try)
                    except _ElsewhereError as error:
                        failure = str(error)
                        self.leave(host)
                    except asyncio.CancelledError:
                        # Whoever asks had less patience than this host needs, perhaps for ever.
                        self.leave(host)
                        raise
        raise self._lost(failure)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, question: _Json) -> AsyncIterator["Stream"]:
        """Open a stream of answers at the host that is asked first.

        Raises:
            RegistryLost: It can't be opened.
        """
        at = self._at
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    session = self._open()
                    opening = session.post(
                        self._roots[at] + path,
                        data=msgspec.json.encode(question),
                        # Whoever has no leader ends the stream: it would be silent for ever.
                        headers={**self._headers(), "Grpc-Metadata-hasleader": "true"},
                        allow_redirects=False,
                    )
                    response = await stack.enter_async_context(opening)
            except _BROKEN as error:
                self.leave(at)
                raise self._lost(_words(error)) from None
            if response.status != 200:
                self.leave(at)
                raise self._lost(f"{path} was answered with {response.status}")
            yield Stream(response, at)

    async def aclose(self) -> None:
        """End every connection; streams raise."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask_at(
        self, host: int, path: str, question: _Json, kind: type[T], one_try: float
    ) -> T | Refusal | TooLong:
        if self._user and not self._token:
            await self._login(host, 0, one_try)
        logins = self._logins
        answer = await self._once(host, path, question, kind, one_try)
        if self._user and isinstance(answer, Refusal) and _is_login_over(answer):
            await self._login(host, logins, one_try)
            answer = await self._once(host, path, question, kind, one_try)
        return answer

    async def _once(
        self, host: int, path: str, question: _Json, kind: type[T], one_try: float
    ) -> T | Refusal | TooLong:
        is_sure = False
        try:
            async with (
                asyncio.timeout(one_try),
                self._open().post(
                    self._roots[host] + path,
                    data=msgspec.json.encode(question),
                    headers=self._headers(),
                    allow_redirects=False,
                ) as response,
            ):
                text = await _whole(response)
            answer = _answer(response.status, text, kind)
            is_sure = True
        except aiohttp.ClientConnectorError as error:
            is_sure = True
            raise _ElsewhereError(_words(error)) from None
        except _BROKEN as error:
            raise _ElsewhereError(_words(error)) from None
        finally:
            self.unsure += not is_sure
        return answer

    async def _login(self, host: int, logins: int, one_try: float) -> None:
        async with self._login_lock:
            if self._logins > logins:
                return  # somebody else has, while this waited
            self._token = ""
            words = {"name": self._user, "password": self._password}
            answer = await self._once(host, "auth/authenticate", words, _Login, one_try)
            if isinstance(answer, TooLong):
                raise _ElsewhereError("no login")
            if isinstance(answer, Refusal):
                if answer.code != PRECONDITION:  # which says that nobody has to
                    raise RegistryLost(f"{self._name} refuses {self._user}: {answer.text}")
            else:
                self._token = answer.token
            self._logins += 1

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    def _open(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise RegistryLost(f"{self._name}: closed")
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=self._ssl, socket_factory=self._socket, use_dns_cache=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),  # ours are around it
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            )
        return self._session

    def _socket(self, where: Any) -> socket.socket:
        family, kind, protocol, _, _ = where
        made = socket.socket(family, kind, protocol)
        # A stream may be silent for long: only so is a peer found that went without a word.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        seconds = max(1, round(self._patience))
        for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        return made

    def _lost(self, why: str) -> RegistryLost:
        return RegistryLost(f"{self._name}: {why}")


@final
class Stream:
    """Answers that come one by one.

    Attributes:
        at: Number of the host they come from.
    """

    def __init__(self, response: aiohttp.ClientResponse, at: int) -> None:
        self._content = response.content
        self._rest = bytearray()
        self._seen = 0
        self.at = at

    async def next(self) -> bytes | TooLong | None:
        """Return the next answer, None if there is no more; may be cancelled and asked again.

        Raises:
            RegistryLost: The connection is lost.
        """
        while True:
            end = self._rest.find(b"\n", self._seen)
            if end >= 0:
                line = bytes(self._rest[:end])
                del self._rest[: end + 1]
                self._seen = 0
                if line:
                    return line
                continue
            self._seen = len(self._rest)
            if self._seen > ANSWER_MAX:
                return TooLong()
            try:
                piece = await self._content.readany()
            except _BROKEN as error:
                raise RegistryLost(f"etcd: {_words(error)}") from None
            if not piece:
                return None
            self._rest += piece


async def _whole(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body; None if it is over the limit."""
    body = bytearray()
    while piece := await response.content.readany():
        body += piece
        if len(body) > ANSWER_MAX:
            return None
    return bytes(body)


def _answer(status: int, text: bytes | None, kind: type[T]) -> T | Refusal | TooLong:
    try:
        if status == 200:
            return TooLong() if text is None else _decode(text, kind)
        problem = _decode(text or b"{}", _Problem)
    except msgspec.MsgspecError:
        raise _ElsewhereError(f"answered with {status}, and in no JSON of etcd's") from None
    if problem.code not in _FINAL:
        # Such as "request timed out": it may still be done.
        raise _ElsewhereError(problem.message[:_TEXT_MAX] or f"answered with {status}")
    return Refusal(problem.code, problem.message[:_TEXT_MAX])


def _decode(text: bytes, kind: type[T]) -> T:
    # Numbers of 64 bits stand there in quotes.
    return msgspec.json.decode(text, type=kind, strict=False)


def _is_login_over(refusal: Refusal) -> bool:
    if refusal.code == NO_LOGIN:
        return True
    words = ("user name is empty", "auth store is old")
    return refusal.code == INVALID and any(each in refusal.text for each in words)


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:_TEXT_MAX]
