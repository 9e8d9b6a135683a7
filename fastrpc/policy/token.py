"""Ask callers for a token, and send one along.

A token travels in the metadata of each call, so it says who makes the call and not
who made the connection.

Rules of the room:
  * secrets are kept and compared as digests of one length, in constant time, all of
    them each time: how long it takes tells nothing;
  * no text of an error, and no repr, has a token in it;
  * who guesses is counted by connection, and sent away.
"""

import hashlib
import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

from fastrpc.call import Call, Handler, Interceptor, Peer, Reply, encode_metadata
from fastrpc.errors import ConfigError, PermissionDenied, Unauthenticated

#: Where a token stands in the metadata, unless somebody wants it elsewhere.
KEY: Final = "authorization"

#: Longest token that is looked at, in bytes.
TOKEN_MAX: Final = 8192

_SCHEME: Final = b"bearer "

#: Tells whose token it is: anything that stands for the caller, or None for nobody's.
Lookup: TypeAlias = Callable[[str], Awaitable[Any] | Any]


@final
class Tokens:
    """Whose token is it? All that is kept are digests.

    Args:
        tokens: The secret of each name.

    Raises:
        ConfigError: There is none, or one is empty or two are the same.
    """

    __slots__ = ("_digests",)

    def __init__(self, tokens: Mapping[str, str | bytes]) -> None:
        self._digests = tuple((name, _digest(secret)) for name, secret in tokens.items())
        if not tokens:
            raise ConfigError("there are no tokens: nobody could call")
        for name, secret in tokens.items():
            if not secret:
                raise ConfigError(f"the token of {name!r} is empty")
        if len({digest for _, digest in self._digests}) < len(tokens):
            raise ConfigError("two names have the same token")

    def __repr__(self) -> str:
        """Tell how many there are."""
        return f"<Tokens of {len(self._digests)} names>"

    def name_of(self, token: str | bytes) -> str | None:
        """Return whose token it is, None if it is nobody's."""
        given, found = _digest(token), None
        for name, digest in self._digests:  # to the end: the work is the same for all
            if hmac.compare_digest(given, digest):
                found = name
        return found


def require_token(
    tokens: Mapping[str, str | bytes] | Lookup,
    *,
    key: str = KEY,
    max_failures: int | None = 3,
) -> Interceptor:
    """Return an interceptor for servers that lets nobody through without a token.

    Callers without get `Unauthenticated`, and no handler is run. For the others
    `call.state["identity"]` says who they are.

    Args:
        tokens: The secret of each name; or a function, async ones too, that gets a
            token and returns whose it is, None for nobody's. A function has to
            compare in constant time itself.
        key: Where the metadata has the token, as "bearer <token>".
        max_failures: Wrong tokens after which the connection is closed, None for never.

    Raises:
        ConfigError: *tokens* or *max_failures* can't be used.
    """
    lookup: Lookup = tokens if callable(tokens) else Tokens(tokens).name_of
    if max_failures is not None and max_failures < 1:
        raise ConfigError(f"max_failures must be 1 or more, or None, got {max_failures!r}")
    failures: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()

    def guarded(handler: Handler) -> Handler:
        async def guard(call: Call) -> Reply:
            peer = call.peer
            if peer is None:
                raise ConfigError("require_token is for servers; clients send one with bearer")
            _refuse(failures.get(peer, 0), max_failures)
            token = _token_of(call, key)
            identity = lookup(token)
            if inspect.isawaitable(identity):
                identity = await identity
                _refuse(failures.get(peer, 0), max_failures)  # others may have failed meanwhile
            if identity is None:
                failures[peer] = count = failures.get(peer, 0) + 1
                if count == max_failures:
                    peer.dismiss("too many wrong tokens")
                raise Unauthenticated("the token is not valid")
            call.state["identity"] = identity
            return await handler(call)

        return guard

    return guarded


def bearer(token: str | Callable[[], Awaitable[str] | str], *, key: str = KEY) -> Interceptor:
    """Return an interceptor for clients that sends a token with each call.

    A call that has one already keeps it.

    Args:
        token: What the server wants; or a function, async ones too, that is asked
            before each call, for tokens that change.
        key: Where to put it in the metadata.

    Raises:
        ConfigError: The token is empty.
    """
    if not token:
        raise ConfigError("the token is empty")
    fixed = _pair(token, key) if isinstance(token, str) else b""

    def sending(handler: Handler) -> Handler:
        async def send(call: Call) -> Reply:
            packed = fixed
            if not isinstance(token, str):
                fresh = token()
                packed = _pair(await fresh if inspect.isawaitable(fresh) else fresh, key)
            if key not in call.metadata:
                call.add_metadata(packed)
            return await handler(call)

        return send

    return sending


def _refuse(failures: int, most: int | None) -> None:
    if most is not None and failures >= most:
        raise PermissionDenied("too many wrong tokens on this connection")


def _pair(token: str, key: str) -> bytes:
    return encode_metadata({key: _SCHEME + token.encode()})


def _token_of(call: Call, key: str) -> str:
    """Return the token that came with a call.

    Raises:
        Unauthenticated: There is none, or something else.
    """
    values = call.metadata.all(key)
    if not values:
        raise Unauthenticated(f"a token is needed, as 'bearer <token>' in the metadata {key!r}")
    if len(values) > 1:
        raise Unauthenticated(f"there is more than one {key!r} in the metadata")
    value = values[0]
    if len(value) > TOKEN_MAX:
        raise Unauthenticated(f"the token is over {TOKEN_MAX} bytes")
    if not value[: len(_SCHEME)].lower().startswith(_SCHEME):
        raise Unauthenticated(f"the metadata {key!r} must be 'bearer <token>'")
    return value[len(_SCHEME) :].decode("utf-8", "surrogateescape")


def _digest(secret: str | bytes) -> bytes:
    data = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
    return hashlib.sha256(data).digest()
