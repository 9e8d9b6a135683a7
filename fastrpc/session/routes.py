"""Make the lane's method table from described services.

It is apart from server and client, which both can serve, because it is plain data:
names in, table out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, final

from fastrpc.call import MethodInfo, Mode, ServiceInfo, describe_service, write_document
from fastrpc.codec import Codec, CodecRegistry
from fastrpc.errors import ConfigError
from fastrpc.frame import Method
from fastrpc.wire import SERIALIZERS, Limits, Serializer

# Those that need no agreement. All others go by way of `Answerer.bind`, which
# looks at what HELLO settled; the lane can't.
_ALWAYS: Final = frozenset({Serializer.RAW, Serializer.MSGPACK, Serializer.JSON})

#: Mode of methods that the lane may not run by itself, whatever they are.
HANDED_UP: Final = 15


@dataclass(slots=True)
class Route:
    """What is known about a method beyond what its lane needs.

    Attributes:
        info: The method as it is served.
        items: Decoders of the caller's items by serializer, made when first needed.
    """

    info: MethodInfo
    items: dict[int, Callable[[bytes], Any]] = field(default_factory=dict)

    def decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return what reads one of the caller's items."""
        decode = self.items.get(codec.serializer)
        if decode is None:
            takes = self.info.takes
            decode = codec.decoder(takes.annotation if takes is not None else Any)
            self.items[codec.serializer] = decode
        return decode


@final
class Routes:
    """The methods that one side answers, by name.

    Args:
        codecs: What arguments may come in.
        limits: Longest method name.
        wrapped: Whether interceptors stand before the handlers.
    """

    def __init__(self, codecs: CodecRegistry, limits: Limits, *, wrapped: bool = False) -> None:
        """Begin with none."""
        self._codecs = codecs
        self._limits = limits
        self._wrapped = wrapped
        self.table: dict[bytes, Method] = {}
        self.services: list[ServiceInfo] = []
        self._told: dict[bool, dict[str, Any]] = {}

    def add(self, obj: Any, name: str | None) -> ServiceInfo:
        """Describe *obj* and route its methods: all of them or none.

        Raises:
            ConfigError: It can't be served, or a name is taken.
        """
        service = describe_service(obj, name)
        fresh: dict[bytes, Method] = {}
        for info in service.methods.values():
            key = info.name.encode()
            if key in self.table:
                raise ConfigError(f"method {info.name!r} is registered already")
            if len(key) > self._limits.max_name:
                raise ConfigError(f"method name {info.name!r} is over max_name")
            fresh[key] = self._method(key, info)
        self.table.update(fresh)
        self.services.append(service)
        self._told.clear()
        return service

    def describe(self, *, schema: bool = False, without: str = "") -> dict[str, Any]:
        """Tell the services as plain values.

        It is worked out once: whoever asks again and again gets the same objects.

        Args:
            schema: With JSON Schemas, as `call.write_document` has them.
            without: Name of a service to leave out.
        """
        if schema not in self._told:
            shown = [service for service in self.services if service.name != without]
            self._told[schema] = (
                write_document(shown)
                if schema
                else {"services": [service.describe() for service in shown]}
            )
        return self._told[schema]

    def _method(self, key: bytes, info: MethodInfo) -> Method:
        decoders: list[Any] = [None] * SERIALIZERS
        route = Route(info)
        for codec in self._codecs:
            if codec.serializer in _ALWAYS:
                _check_annotations(codec, route)
                if info.mode is not Mode.STREAM:
                    decoders[codec.serializer] = self._arguments(codec, info)
        in_place = not (self._wrapped or info.filled)
        return Method(key, int(info.mode) if in_place else HANDED_UP, info.handler, decoders, route)

    def _arguments(self, codec: Codec, info: MethodInfo) -> Any:
        """Return the fast decoder of plain positional arguments, None if there can't be one."""
        if any(item.kind == "keyword_only" and item.required for item in info.parameters):
            return None
        ordered = [item for item in info.parameters if item.kind.startswith("positional")]
        required = sum(item.required for item in ordered)
        rest = next((item.annotation for item in info.parameters if item.kind == "rest"), None)
        try:
            return codec.arguments([item.annotation for item in ordered], required, rest)
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
