"""Make the lane's method table from described services.

It is apart from the server because it is plain data: names in, table out.
"""

from collections.abc import Iterable
from typing import Any

from fastrpc.call import MethodInfo, Mode, ServiceInfo, describe_service
from fastrpc.codec import CodecRegistry
from fastrpc.errors import ConfigError
from fastrpc.frame import Method
from fastrpc.wire import SERIALIZERS, Limits


class Routes:
    """The methods a server answers, by name.

    Args:
        codecs: What arguments may come in.
        limits: Longest method name.
    """

    def __init__(self, codecs: CodecRegistry, limits: Limits) -> None:
        self._codecs = codecs
        self._limits = limits
        self.table: dict[bytes, Method] = {}
        self.services: list[ServiceInfo] = []

    def add(self, obj: Any, name: str | None) -> ServiceInfo:
        """Describe *obj* and route its methods.

        Raises:
            ConfigError: It can't be served, or a name is taken.
        """
        service = describe_service(obj, name)
        fresh = {info.name.encode(): info for info in service.methods.values()}
        for key in fresh:
            if key in self.table:
                raise ConfigError(f"method {key.decode()!r} is registered already")
            if len(key) > self._limits.max_name:
                raise ConfigError(f"method name {key.decode()!r} is over max_name")
        table = {key: self._method(key, info) for key, info in fresh.items()}
        self.table.update(table)
        self.services.append(service)
        return service

    def describe(self) -> list[dict[str, Any]]:
        """Tell the services as plain values."""
        return [service.describe() for service in self.services]

    def _method(self, key: bytes, info: MethodInfo) -> Method:
        decoders: list[Any] = [None] * SERIALIZERS
        if info.mode is not Mode.STREAM:
            for codec in self._codecs:
                decoders[codec.serializer] = self._arguments(codec, info)
        return Method(key, int(info.mode), info.handler, decoders, info)

    def _arguments(self, codec: Any, info: MethodInfo) -> Any:
        """Return the fast decoder of plain positional arguments, None if there can't be one."""
        kinds = [parameter.kind for parameter in info.parameters]
        if any(kind in ("keyword_only",) for kind in kinds) and any(
            parameter.required for parameter in _of_kind(info, "keyword_only")
        ):
            return None
        ordered = [p for p in info.parameters if p.kind in ("positional", "positional_only")]
        required = sum(1 for p in ordered if p.required)
        rest = next((p.annotation for p in _of_kind(info, "rest")), None)
        try:
            return codec.arguments([p.annotation for p in ordered], required, rest)
        except ConfigError as exc:
            if codec.name in ("msgpack", "json"):
                raise ConfigError(f"{info.name}: {exc}") from exc
            return None  # such as two arguments over the raw codec


def _of_kind(info: MethodInfo, kind: str) -> Iterable[Any]:
    return (parameter for parameter in info.parameters if parameter.kind == kind)
