"""Make typed callers out of a service class.

A stub has an attribute per public method; calling it calls the server, and the
result is read as the annotated type. Type checkers see the class itself.
"""

from collections.abc import Callable
from typing import Any

from fastrpc.call import MethodInfo, Mode, describe_service
from fastrpc.call.method import MARK
from fastrpc.codec import Codec, Mismatch
from fastrpc.errors import ConfigError, Unsupported

Bind = Callable[[str, Callable[[bytes], Any] | None], Callable[..., Any]]


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


def make_stub(service: type, name: str | None, bind: Bind, codec: Codec) -> Stub:
    """Return a stub of *service*.

    Args:
        service: The class; it is not instantiated, so abstract ones will do.
        name: Service name instead of the class's own.
        bind: Makes the callable of a method from its name and result decoder.
        codec: Reads the results.

    Raises:
        ConfigError: The class can't be a service; the message says why.
    """
    if not isinstance(service, type):
        raise ConfigError(f"stub() takes a class, got {service!r}")
    service = contract_of(service)
    described = describe_service(bare_instance(service), name or service.__name__)
    stub = Stub(described.name)
    for info in described.methods.values():
        call = (
            _no_stream(info) if info.mode is Mode.STREAM else bind(info.name, _decoder(info, codec))
        )
        setattr(stub, attribute_of(service, info), call)
    return stub


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
    if info.returns is Any:
        return None
    decode, returns = codec.decoder(info.returns), info.returns

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


def _no_stream(info: MethodInfo) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Unsupported(f"{info.name}: streams are not supported by this version")

    return refuse
