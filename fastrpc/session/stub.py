"""Make typed callers out of a service class.

A stub has an attribute per public method; calling it calls the server, and the
result is read as the annotated type. Type checkers see the class itself.
"""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastrpc.call import MethodInfo, describe_service
from fastrpc.call.method import MARK, method_key
from fastrpc.codec import Codec, Mismatch, is_typed_only
from fastrpc.errors import ConfigError, InvalidArgument


@dataclass(frozen=True, slots=True)
class Bound:
    """A method of a stub, before it can be called.

    Attributes:
        info: The method.
        key: Its name on the wire.
        decode: Decoder of its value, None for the codec's own.
    """

    info: MethodInfo
    key: str
    decode: Callable[[bytes], Any] | None


class Stub:
    """The methods of a service on the other side. Made by `client.stub`."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __repr__(self) -> str:
        """Tell the service."""
        return f"<stub of {self._service}>"

    def __getattr__(self, name: str) -> Any:
        """Explain a name that the service does not have."""
        raise AttributeError(f"{self._service} has no method {name!r}")


def make_stub(
    service: type,
    name: str | None,
    bind: Callable[[Bound], Any],
    codec: Codec,
    *,
    version: str = "",
    group: str = "",
) -> Stub:
    """Return a stub of *service*.

    Args:
        service: The class; it is not instantiated, so abstract ones will do.
        name: Service name instead of the class's own.
        bind: Makes the callable of a method.
        codec: Reads the results.
        version: Which version of the service to call.
        group: Which group of it.

    Raises:
        ConfigError: The class can't be a service; the message says why.
    """
    if not isinstance(service, type):
        raise ConfigError(f"stub() takes a class, got {service!r}")
    service = contract_of(service)
    described = describe_service(bare_instance(service), name or service.__name__)
    stub = Stub(described.name)
    for info in described.methods.values():
        key = method_key(info.name, version, group)
        setattr(stub, attribute_of(service, info), _call(info, key, bind, codec))
    return stub


def _call(info: MethodInfo, key: str, bind: Callable[[Bound], Any], codec: Codec) -> Any:
    try:
        return bind(Bound(info, key, _decoder(info, codec)))
    except ConfigError as error:
        if not is_typed_only(codec):
            raise
        return _not_carried(info, error)  # a service may have methods for several codecs


def _not_carried(info: MethodInfo, error: ConfigError) -> Callable[..., Any]:
    text = f"{info.name}: {error}"

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ConfigError(text)

    return refuse


def contract_of(service: type) -> type:
    """Return the class that *service* shows to type checkers, or else itself.

    `fastrpc stubs` writes classes that have exact types for one kind of client, and
    the class they were made from under the mark.
    """
    shown = vars(service).get(MARK)
    return shown if isinstance(shown, type) else service


def bare_instance(service: type) -> Any:
    """Return an instance that was never initialised: only its methods are looked at."""
    complete: Any = service
    if getattr(service, "__abstractmethods__", None):
        complete = type(service.__name__, (service,), {"__doc__": service.__doc__})
        complete.__abstractmethods__ = frozenset()
    try:
        return object.__new__(complete)
    except TypeError as exc:
        raise ConfigError(f"{service.__name__} can't be a stub: {exc}") from None


def attribute_of(service: type, info: MethodInfo) -> str:
    """Return what the method is called in Python, whatever it is called on the wire."""
    if info.traits.name is not None:
        for key in dir(service):
            if getattr(getattr(service, key, None), MARK, None) == info.traits:
                return key
    return info.name.rpartition(".")[2]


def _decoder(info: MethodInfo, codec: Codec) -> Callable[[bytes], Any] | None:
    """Return what reads the result; what it refuses is refused in the words of arguments."""
    if info.returns is Any or info.item is not None:
        return None
    decode, returns = codec.decoder(info.returns), info.returns
    if is_typed_only(codec):
        return decode  # there is no second way to read it, and its words are our own

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except Exception:  # a codec may raise any
            plain = codec.decode(data)  # raises if it is no value at all
        try:
            return codec.convert(plain, returns)
        except Mismatch:
            raise
        except Exception as error:
            raise Mismatch(str(error) or type(error).__name__) from error

    return read


def split_source(
    info: MethodInfo,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    kind: type = AsyncIterable,
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Take the stream of items out of the arguments of a stub's method.

    Args:
        info: The method.
        args: Positional arguments.
        kwargs: Arguments by name.
        kind: What the items must come from: `AsyncIterable` or `Iterable`.

    Raises:
        InvalidArgument: It is missing, or nothing to iterate over.
    """
    place, parameter = next(item for item in info.filled if item[1].kind == "items")
    # What the server fills in before it does not come with the arguments.
    place -= sum(1 for other, item in info.filled if 0 <= other < place and item.kind == "given")
    rest = dict(kwargs)
    if parameter.name in rest:
        source = rest.pop(parameter.name)
    elif 0 <= place < len(args):
        source = args[place]
        args = args[:place] + args[place + 1 :]
    else:
        raise InvalidArgument(f"{info.name}: argument {parameter.name!r} is missing")
    if not isinstance(source, kind):
        wanted = "async iterable" if kind is AsyncIterable else "iterable"
        given = type(source).__name__
        hint = "; client.stream(...).feed takes plain ones" if isinstance(source, Iterable) else ""
        text = f"{info.name}: argument {parameter.name!r}: {given} is no {wanted}{hint}"
        raise InvalidArgument(text)
    return args, rest, source
