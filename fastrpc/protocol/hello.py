"""Read, write and settle the HELLO pair that opens every connection.

The client says what it speaks and accepts, the server answers with what it
chose and accepts. The body is one JSON object, because it is read once per
connection and because people read it too.

Rules of the room:
  * each key has one rule in one table; it guards what we write and what we read;
  * a message never shows a value the peer sent: it may be a token, or endless;
  * a key left out means its default, a key we do not know means nothing.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastrpc.errors import ConfigError, ProtocolError
from fastrpc.wire import (
    BODY_MAX,
    CREDIT_MAX,
    LIMIT_CEILINGS,
    MAGIC,
    SERIALIZERS,
    VERSION,
    Limits,
    Serializer,
    StatusCode,
)

_DEFAULTS: Final = Limits()
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_FIXED: Final = {serializer.name.lower(): int(serializer) for serializer in Serializer}
_GIVEN: Final = frozenset(_FIXED.values())
#: Codecs that every implementation has; also what a HELLO without the key means.
_STANDARD: Final = {name: _FIXED[name] for name in ("raw", "msgpack", "json")}

MAX_VERSIONS: Final = 16
MAX_ZIPS: Final = 16
MAX_FEATURES: Final = 64
MAX_AGENT: Final = 256
MAX_AUTH: Final = 8192
MAX_NONCE: Final = 128
MAX_MESSAGE: Final = 500
MILLISECONDS_MAX: Final = 2**32 - 1

_Rule = Callable[[object], Any]


def _whole(low: int, high: int) -> _Rule:
    def rule(value: object) -> int:
        if type(value) is not int:  # bool is an int in Python, but not in JSON
            raise ValueError(f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise ValueError(f"must be {low} to {high}")
        return value

    return rule


def _text(longest: int) -> _Rule:
    def rule(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be text, not {_kind(value)}")
        if len(value) > longest:
            raise ValueError(f"must have at most {longest} characters")
        if not value.isprintable():  # keeps line breaks and lone surrogates out of logs
            raise ValueError("must have printable characters only")
        return value

    return rule


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a name, not {_kind(value)}")
    if _NAME.fullmatch(value) is None:
        raise ValueError("must be a name of 1 to 32 letters, digits or ._+-")
    return value


def _sequence(item: _Rule, most: int, least: int = 0) -> _Rule:
    def rule(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, not {_kind(value)}")
        if not least <= len(value) <= most:
            raise ValueError(f"must have {least} to {most} items")
        try:
            return tuple(item(element) for element in value)
        except ValueError as exc:
            raise ValueError(f"has a wrong item: it {exc}") from None

    return rule


def _codecs(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object, not {_kind(value)}")
    if not 1 <= len(value) <= SERIALIZERS:
        raise ValueError(f"must have 1 to {SERIALIZERS} entries")
    number_rule = _whole(0, SERIALIZERS - 1)
    checked: dict[str, int] = {}
    for key, element in value.items():
        try:
            name, number = _name(key), number_rule(element)
        except ValueError as exc:
            raise ValueError(f"has a wrong entry: it {exc}") from None
        # Numbers 7 to 15 are not given out yet: a later version may name them.
        if _FIXED.get(name, number) != number or (name not in _FIXED and number in _GIVEN):
            raise ValueError("gives a number to a name that the registry gives to another")
        checked[name] = number
    if len(set(checked.values())) != len(checked):
        raise ValueError("gives one number to two names")
    return checked


def _kind(value: object) -> str:
    """Name the JSON kind of *value*, for messages that must not show it."""
    if value is None:
        return "null"
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a fraction"),
        (str, "text"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "something else")


_version: Final = _whole(1, 255)
_RULES: Final[Mapping[str, _Rule]] = {
    "versions": _sequence(_version, MAX_VERSIONS, least=1),
    "codecs": _codecs,
    "zips": _sequence(_name, MAX_ZIPS),
    "features": _sequence(_name, MAX_FEATURES),
    "max_body": _whole(1, BODY_MAX),
    "max_calls": _whole(0, CREDIT_MAX),
    "methods": _whole(0, LIMIT_CEILINGS["max_methods"]),
    "window": _whole(1, CREDIT_MAX),
    "ping_ms": _whole(0, MILLISECONDS_MAX),
    "handle_ms": _whole(0, MILLISECONDS_MAX),
    "agent": _text(MAX_AGENT),
    "auth": _text(MAX_AUTH),
    "nonce": _text(MAX_NONCE),
    "instance": _text(MAX_NONCE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What one side of a connection speaks and accepts.

    In an answer `versions` and `zips` hold the one that was chosen; `zips` is
    empty if payloads are not compressed.

    Attributes:
        versions: Wire versions, any order; exactly one in an answer.
        codecs: Serializer numbers by name.
        zips: Compressions, best first; at most one in an answer.
        features: Optional parts of the protocol; used only if both sides name them.
        max_body: Longest body this side accepts.
        max_calls: Calls and streams of the peer's that may be open at once; 0 means
            this side serves none.
        methods: Largest method number this side binds.
        window: Credit the peer has at the start of each stream towards this side.
        ping_ms: Shortest time between pings this side accepts; 0 means any.
        handle_ms: Longest time a handler gets here; 0 means not told.
        agent: Name and version of the program, for people.
        auth: Token; never shown in a repr or an error.
        nonce: The client's random text, echoed in the answer.
        instance: Names the server process.

    Raises:
        ConfigError: A value breaks the rule of its key; the message names it.
    """

    versions: tuple[int, ...] = (VERSION,)
    codecs: Mapping[str, int] = field(default_factory=lambda: dict(_STANDARD))
    zips: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    max_body: int = _DEFAULTS.max_body
    max_calls: int = _DEFAULTS.max_calls
    methods: int = _DEFAULTS.max_methods
    window: int = _DEFAULTS.window
    ping_ms: int = int(_DEFAULTS.ping_interval * 1000)
    handle_ms: int = 0
    agent: str = ""
    auth: str = field(default="", repr=False)
    nonce: str = ""
    instance: str = ""

    def __post_init__(self) -> None:
        """Check every field, and keep own copies of lists and mappings."""
        for key, rule in _RULES.items():
            try:
                object.__setattr__(self, key, rule(getattr(self, key)))
            except ValueError as exc:
                raise ConfigError(f"hello option {key} {exc}") from None

    @property
    def version(self) -> int:
        """The highest version; in an answer, the one that was chosen."""
        return max(self.versions)

    @property
    def zip(self) -> str | None:
        """The preferred compression; in an answer, the one that was chosen."""
        return self.zips[0] if self.zips else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a server answered HELLO with a status other than ok.

    Attributes:
        message: Text for people, without unprintable characters.
        retry_ms: Time to stay away; 0 means not told.
    """

    message: str = ""
    retry_ms: int = 0


def encode_option(
    option: Option,
    answer: bool,
    *,
    omit: Collection[str] = (),
    extra: Mapping[str, object] | None = None,
) -> bytes:
    """Write the body of a HELLO frame: compact JSON with sorted keys.

    Empty texts and lists and a `handle_ms` of 0 are left out.

    Args:
        option: What to say.
        answer: Whether this is the server's answer.
        omit: Keys to leave out as well; the peer then takes their defaults.
        extra: Keys of no meaning, to prove that peers ignore them.

    Raises:
        ConfigError: The body would be longer than any peer takes, or an answer
            chooses more than one version or compression.
    """
    body: dict[str, object] = dict(extra or {})
    for key in _RULES:
        value = getattr(option, key)
        if value or key in ("max_calls", "methods", "ping_ms"):
            body[key] = value
    if answer:
        if len(option.versions) != 1 or len(option.zips) > 1:
            raise ConfigError("an answer has one version and at most one compression")
        body["version"] = body.pop("versions")[0]  # type: ignore[index]
        if option.zips:
            body["zip"] = body.pop("zips")[0]  # type: ignore[index]
    for key in omit:
        body.pop(key, None)
    return _dump(body)


def decode_option(data: bytes, answer: bool, *, max_hello: int = _DEFAULTS.max_hello) -> Option:
    """Read the body of a HELLO frame that the peer sent with status ok.

    Args:
        data: The body.
        answer: Whether it is the server's answer.
        max_hello: Longest body to accept.

    Raises:
        ProtocolError: The body is too long or no JSON object, or a known key is
            wrong; the message names the key.
    """
    body = _load(data, max_hello)
    # After the magic, so that a stranger's JSON is called what it is.
    if type(body.get("magic")) is not int or body["magic"] != MAGIC:
        raise ProtocolError(f"HELLO: magic must be {MAGIC}")
    rules = dict(_RULES)
    if answer:
        del rules["versions"], rules["zips"]
        rules.update(version=_version, zip=_name)
    fields: dict[str, Any] = {}
    for key, rule in rules.items():
        if key in body:
            try:
                fields[key] = rule(body[key])
            except ValueError as exc:
                raise ProtocolError(f"HELLO: {key} {exc}") from None
    for single, several in (("version", "versions"), ("zip", "zips")):
        if single in fields:
            fields[several] = (fields.pop(single),)
    if "versions" not in fields:
        raise ProtocolError(f"HELLO: {'version' if answer else 'versions'} is missing")
    return Option(**fields)


def encode_refusal(message: str, retry_ms: int = 0) -> bytes:
    """Write the body of a HELLO answer whose status is not ok."""
    body: dict[str, object] = {"message": _clean(message)}
    if retry_ms:
        body["retry_ms"] = retry_ms
    return _dump(body)


def decode_refusal(data: bytes, *, max_hello: int = _DEFAULTS.max_hello) -> Refusal:
    """Read the body of a HELLO answer whose status is not ok.

    The status alone says enough, so whatever can't be read counts as not told.
    """
    try:
        body = _load(data, max_hello)
    except ProtocolError:
        return Refusal()
    message, retry_ms = body.get("message"), body.get("retry_ms")
    return Refusal(
        message=_clean(message) if isinstance(message, str) else "",
        retry_ms=min(max(retry_ms, 0), MILLISECONDS_MAX) if type(retry_ms) is int else 0,
    )


def negotiate(client: Option, server: Option) -> Option:
    """Return the server's answer to *client*, given what the server offers.

    The highest common version and the client's best known compression win;
    codecs count as common if name and number are equal. The limits are the
    server's own, the nonce is the client's.

    Raises:
        ProtocolError: With status 47, to be sent as a refusal: no common
            version or codec.
    """
    versions = set(client.versions) & set(server.versions)
    if not versions:
        raise ProtocolError(
            f"no common wire version: the client speaks {_join(client.versions)}, "
            f"the server {_join(server.versions)}",
            status=StatusCode.UNSUPPORTED,
        )
    codecs = _common_codecs(server, client)
    if not codecs:
        raise ProtocolError(
            f"no common codec: the client has {_join(client.codecs)}, "
            f"the server {_join(server.codecs)}",
            status=StatusCode.UNSUPPORTED,
        )
    return replace(
        server,
        versions=(max(versions),),
        codecs=codecs,
        zips=tuple(name for name in client.zips if name in server.zips)[:1],
        features=_common_features(server, client),
        nonce=client.nonce,
    )


def confirm(asked: Option, answer: Option) -> Option:
    """Return *answer* cut down to what the client asked for, if it is one to that.

    Raises:
        ProtocolError: The answer echoes another nonce, or chose a version or
            compression that was not asked for, or shares no codec.
    """
    if answer.nonce != asked.nonce:
        raise ProtocolError("HELLO: nonce is not the one sent: the answer is not for us")
    if answer.version not in asked.versions:
        raise ProtocolError("HELLO: version was not asked for")
    if answer.zip is not None and answer.zip not in asked.zips:
        raise ProtocolError("HELLO: zip was not asked for")
    codecs = _common_codecs(answer, asked)
    if not codecs:
        raise ProtocolError("HELLO: codecs has none that was asked for")
    return replace(answer, codecs=codecs, features=_common_features(answer, asked))


def _common_codecs(first: Option, second: Option) -> dict[str, int]:
    return {
        name: number for name, number in first.codecs.items() if second.codecs.get(name) == number
    }


def _common_features(first: Option, second: Option) -> tuple[str, ...]:
    return tuple(name for name in first.features if name in second.features)


def _join(values: Collection[object]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))


def _clean(text: str) -> str:
    kept = text[:MAX_MESSAGE]
    return kept if kept.isprintable() else "".join(c if c.isprintable() else " " for c in kept)


def _dump(body: dict[str, object]) -> bytes:
    body["magic"] = MAGIC
    data = json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
    if len(data) > _DEFAULTS.max_hello:
        raise ConfigError(f"hello of {len(data)} bytes is over the {_DEFAULTS.max_hello} allowed")
    return data


def _load(data: bytes, max_hello: int) -> dict[str, Any]:
    if len(data) > max_hello:
        raise ProtocolError(f"HELLO: body of {len(data)} bytes is over the {max_hello} allowed")
    try:
        # Decoded here, because json would guess UTF-16 and UTF-32 as well.
        text = bytes(data).decode("utf-8")
        if _depth(text) > _DEFAULTS.max_depth:
            raise ProtocolError(f"HELLO: body is nested deeper than {_DEFAULTS.max_depth}")
        body = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except ValueError:
        raise ProtocolError("HELLO: body is not JSON") from None
    if not isinstance(body, dict):
        raise ProtocolError(f"HELLO: body must be an object, not {_kind(body)}")
    return body


def _depth(text: str) -> int:
    """Return how deep the JSON *text* nests: json itself goes as far as its stack does."""
    if text.count("[") + text.count("{") <= _DEFAULTS.max_depth:
        return 0
    depth = deepest = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):  # two readers could choose differently between them
        raise ProtocolError("HELLO: a key appears twice")
    return body


def _constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity are no JSON
