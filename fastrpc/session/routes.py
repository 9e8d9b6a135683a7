"""Make the lane's method table from described services.

It is apart from server and client, which both can serve, because it is plain data:
names in, table out.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from fastrpc.call import (
    MethodInfo,
    Mode,
    ServiceInfo,
    describe_service,
    positional_types,
    write_document,
)
from fastrpc.codec import Codec, CodecRegistry, is_typed_only
from fastrpc.errors import ConfigError
from fastrpc.frame import Method
from fastrpc.wire import SERIALIZERS, Limits, Serializer, StatusCode

# Those that need no agreement. All others go by way of `Answerer.bind`, which
# looks at what HELLO settled; the lane can't.
_ALWAYS: Final = frozenset({Serializer.RAW, Serializer.MSGPACK, Serializer.JSON})

#: As the lane has it, which a test looks after: one call in so many is timed.
SAMPLED: Final = 16
_AT_ONCE: Final = (Mode.SYNC, Mode.INLINE)

#: Mode of methods that the lane may not run by itself, whatever they are.
HANDED_UP: Final = 15


@dataclass(slots=True)
class Route:
    """What is known about a method beyond what its lane needs.

    Attributes:
        info: The method as it is served.
        failures: Calls that did not end well, by status; those that were not run are
            among them, and those whose callers gave them up; see `failures_of`.
    """

    info: MethodInfo
    failures: dict[int, int] = field(default_factory=dict)
    _items: dict[int, Callable[[bytes], Any]] = field(default_factory=dict)
    _messages: dict[int, Callable[[bytes], Sequence[Any]]] = field(default_factory=dict)

    def failed(self, status: int) -> None:
        """Count a call that did not end well."""
        self.failures[status] = self.failures.get(status, 0) + 1

    def item_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return what reads one of the caller's items."""
        decode = self._items.get(codec.serializer)
        if decode is None:
            takes = self.info.takes
            decode = codec.decoder(takes.annotation if takes is not None else Any)
            self._items[codec.serializer] = decode
        return decode

    def message_decoder(self, codec: Codec) -> Callable[[bytes], Sequence[Any]]:
        """Return what reads the arguments by their annotations alone.

        Raises:
            ConfigError: *codec* can't carry them.
        """
        decode = self._messages.get(codec.serializer)
        if decode is None:
            wanted = positional_types(self.info)
            if wanted is None:
                raise ConfigError(f"it has arguments by name, which {codec.name} can't carry")
            decode = self._messages[codec.serializer] = codec.arguments(*wanted)
        return decode

    def carries(self, codec: Codec) -> bool:
        """Tell whether *codec* is one of messages, and carries those of this method."""
        if not is_typed_only(codec):
            return False
        try:
            self.message_decoder(codec)
        except ConfigError:
            return False
        return True


def failures_of(method: Method) -> dict[int, int]:
    """Return the calls that did not end well, by status; those that a lane has shed, too."""
    failures: dict[int, int] = dict(method.info.failures)
    if method.shed:
        failures[StatusCode.OVERLOADED] = failures.get(StatusCode.OVERLOADED, 0) + method.shed
    return failures


def is_timed(method: Method, before: int) -> bool:
    """Say whether to count how long a call of *method* takes.

    Of calls that need not wait one in sixteen, as the lane does it, whatever way they come.

    Args:
        method: What is called.
        before: How many calls of it came before.
    """
    return before % SAMPLED == 0 or method.info.info.mode not in _AT_ONCE


@final
class Routes:
    """The methods that one side answers, by name.

    Args:
        codecs: What arguments may come in.
        limits: Longest method name.
        wrapped: Whether interceptors stand before the handlers.
        around: Returns what to call in place of a method's handler, None for the handler
            itself; calls of methods that have such a one may be shed.
    """

    def __init__(
        self,
        codecs: CodecRegistry,
        limits: Limits,
        *,
        wrapped: bool = False,
        around: Callable[[MethodInfo], Callable[..., Any] | None] | None = None,
    ) -> None:
        """Begin with none."""
        self._codecs = codecs
        self._limits = limits
        self._wrapped = wrapped
        self._around = around
        self.table: dict[bytes, Method] = {}
        self.services: list[ServiceInfo] = []
        self._told: dict[bool, dict[str, Any]] = {}

    def add(
        self,
        obj: Any,
        name: str | None,
        *,
        version: str = "",
        group: str = "",
        default: bool = False,
    ) -> ServiceInfo:
        """Describe *obj* and route its methods: all of them or none.

        Args:
            obj: What to serve.
            name: Name of the service instead of its own.
            version: Which of several that are served under one name.
            group: Which of several that run the same code.
            default: Answer also those who name neither version nor group.

        Raises:
            ConfigError: It can't be served, or a name is taken.
        """
        service = describe_service(obj, name, version=version, group=group, default=default)
        fresh: dict[bytes, Method] = {}
        for info in service.methods.values():
            for wire_name in dict.fromkeys(service.wire_names(info.name)):
                key = wire_name.encode()
                if key in self.table:
                    raise ConfigError(f"method {wire_name!r} is registered already")
                if len(key) > self._limits.max_name:
                    raise ConfigError(f"method name {wire_name!r} is over max_name")
                fresh[key] = self._method(key, info)
        self.table.update(fresh)
        self.services.append(service)
        self._told.clear()
        return service

    def describe(self, *, schema: bool = False, without: Collection[str] = ()) -> dict[str, Any]:
        """Tell the services as plain values.

        It is worked out once: whoever asks again and again gets the same objects.

        Args:
            schema: With JSON Schemas, as `call.write_document` has them.
            without: Names of services to leave out.
        """
        if schema not in self._told:
            shown = [service for service in self.services if service.name not in without]
            self._told[schema] = (
                write_document(shown)
                if schema
                else {"services": [service.describe() for service in shown]}
            )
        return self._told[schema]

    def _method(self, key: bytes, info: MethodInfo) -> Method:
        decoders: list[Any] = [None] * SERIALIZERS
        route = Route(info)
        is_foreign = any(route.carries(codec) for codec in self._codecs)
        for codec in self._codecs:
            if codec.serializer not in _ALWAYS:
                continue
            try:
                _check_annotations(codec, route)
                if info.mode is not Mode.STREAM:
                    decoders[codec.serializer] = self._arguments(codec, info)
            except ConfigError:
                if not is_foreign:  # else it is a method for the codec of its messages
                    raise
        in_place = not (self._wrapped or info.filled)
        mode = int(info.mode) if in_place else HANDED_UP
        watched = self._around(info) if self._around is not None else None
        method = Method(key, mode, watched or info.handler, decoders, route)
        method.is_sheddable = watched is not None
        return method

    def _arguments(self, codec: Codec, info: MethodInfo) -> Any:
        """Return the fast decoder of plain positional arguments, None if there can't be one."""
        wanted = positional_types(info)
        if wanted is None:
            return None
        try:
            return codec.arguments(*wanted)
        except ConfigError as exc:
            if codec.serializer == Serializer.RAW:
                return None  # two arguments, for example
            raise ConfigError(f"{info.name}: {exc}") from exc


def _check_annotations(codec: Codec, route: Route) -> None:
    """Refuse a method with a parameter, named ones included, that *codec* can't read."""
    info = route.info
    if codec.serializer == Serializer.RAW:
        return  # it carries bytes; what is something else comes by another codec
    for item in (*info.parameters, *([info.takes] if info.takes is not None else [])):
        try:
            codec.decoder(item.annotation)
        except ConfigError as exc:
            raise ConfigError(f"{info.name}: argument {item.name!r}: {exc}") from exc
