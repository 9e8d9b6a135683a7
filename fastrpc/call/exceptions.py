"""Keep the exceptions that both sides know by name, and make them again.

Without it a caller gets the name and the text of what a handler raised; with it,
the exception itself. It is apart from the session because it is about classes and
plain values: no frames, no connections.

Rules of the room:
  * only what was registered is made, by exact class and exact name; nothing is
    imported, and no attribute is set, because a peer names it;
  * state is plain data, and what is annotated is checked before the class sees it;
  * anything may raise here: classes are the application's. The session catches it.
"""

import inspect
import typing
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from fastrpc.call.hints import resolve_hints
from fastrpc.call.refusal import class_named
from fastrpc.errors import CodecError, ConfigError, FastRPCError, RemoteError, RpcError

NAME_MAX: Final = 200  # characters of a class's name on the wire

#: Key of the state whose value are the positional arguments.
ARGS_KEY: Final = "args"

ErrorClasses = Collection[type[Exception]] | Mapping[str, type[Exception]]
Convert = Callable[[Any, Any], Any]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NOT_THERE: Final = object()


def _as_is(value: Any, type: Any) -> Any:
    return value


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A registered class, and what of it travels.

    Attributes:
        name: On the wire.
        kind: The class.
        signature: Of its constructor; None if that is not written in Python.
        types: By name, of all that is annotated.
        fields: What is declared in the class and is no argument of the constructor.
    """

    name: str
    kind: type[Exception]
    signature: inspect.Signature | None
    types: Mapping[str, Any]
    fields: Sequence[str]

    def state_of(self, exc: Exception) -> Any:
        """Return what travels of *exc*."""
        if hasattr(self.kind, "to_rpc"):
            return self.kind.to_rpc(exc)
        if isinstance(exc, RpcError) and (exc.data is not None or self._is_plain_rpc_error):
            return exc.data
        state = self._arguments_of(exc)
        if state is None:
            state = {ARGS_KEY: list(exc.args)}
        for name in self.fields:
            value = getattr(exc, name, _NOT_THERE)
            if value is not _NOT_THERE:
                state[name] = value
        return state

    def make(self, remote: RemoteError, convert: Convert) -> Any:
        """Return the exception that *remote* tells of."""
        if hasattr(self.kind, "from_rpc"):
            return self.kind.from_rpc(remote.message, remote.data)
        make: Callable[..., Exception] = self.kind
        if self._is_plain_rpc_error:
            return make(remote.code, remote.message, remote.data)
        state = remote.data
        if not isinstance(state, dict):
            raise CodecError("its state did not come with it")
        args, kwargs = self._call(remote, state, convert)
        exc = make(*args, **kwargs)
        for name in self.fields:
            if name in state:
                setattr(exc, name, self._read(name, state[name], convert))
        return exc

    @property
    def _is_plain_rpc_error(self) -> bool:
        return self.kind.__init__ is RpcError.__init__

    def _arguments_of(self, exc: Exception) -> dict[str, Any] | None:
        """Return the constructor's arguments, if they are attributes by the same names."""
        if self.signature is None:
            return None
        found: dict[str, Any] = {}
        for parameter in self.signature.parameters.values():
            if parameter.kind in _VARIADIC:
                return None
            value = getattr(exc, parameter.name, _NOT_THERE)
            if value is not _NOT_THERE:
                found[parameter.name] = value
            elif parameter.default is parameter.empty and parameter.name != "message":
                return None
        return found

    def _call(
        self, remote: RemoteError, state: dict[Any, Any], convert: Convert
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments for the constructor."""
        given = state.get(ARGS_KEY)
        if given is None:
            if self.signature is None:
                return (), {}
            arguments = OrderedDict(self._named(remote, state))
            bound = inspect.BoundArguments(self.signature, arguments)
        elif not isinstance(given, list | tuple):
            raise CodecError(f"{ARGS_KEY!r} of its state must be an array")
        elif self.signature is None:
            return given, {}
        else:
            bound = self.signature.bind(*given)
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind not in _VARIADIC:
                bound.arguments[name] = self._read(name, value, convert)
        return bound.args, bound.kwargs

    def _named(self, remote: RemoteError, state: dict[Any, Any]) -> dict[str, Any]:
        assert self.signature is not None
        found: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.kind in _VARIADIC:  # a peer must not choose what they gather
                continue
            if name in state:
                found[name] = state[name]
            elif name == "message":  # the text travels anyway
                found[name] = remote.message
            elif parameter.default is parameter.empty:
                raise CodecError(f"argument {name!r} is missing")
        return found

    def _read(self, name: str, value: Any, convert: Convert) -> Any:
        wanted = self.types.get(name, Any)
        if wanted is Any:
            return value
        try:
            return convert(value, wanted)
        except Exception as exc:
            path = getattr(exc, "path", "")
            problem = getattr(exc, "problem", "") or str(exc)
            raise CodecError(f"{f'{name!r}, {path}' if path else repr(name)}: {problem}") from exc


@final
class ErrorRegistry:
    """The exception classes that one side knows.

    Args:
        classes: Classes, or classes by the name that they have on the wire.
        convert: A codec's `convert`, for what is annotated.

    Raises:
        ConfigError: One can't be used; the message names it.
    """

    def __init__(self, classes: ErrorClasses = (), convert: Convert = _as_is) -> None:
        self._convert = convert
        self._by_name: dict[str, _Known] = {}
        self._by_class: dict[type[BaseException], _Known] = {}
        given: Any = classes
        if isinstance(given, Mapping):
            for name, each in given.items():
                self.add(each, name)
        elif isinstance(given, Collection) and not isinstance(given, str | bytes):
            for each in given:
                self.add(each)
        else:
            kind = type(given).__name__
            raise ConfigError(f"errors must be classes, or a map of names to classes, got {kind}")

    def __len__(self) -> int:
        """Return how many classes are known."""
        return len(self._by_name)

    def add(self, kind: type[Exception], name: str | None = None) -> None:
        """Know one class more; the same twice is fine.

        Args:
            kind: The class; classes that derive from it have to be added themselves.
            name: On the wire; by default the class's own, with those of the classes
                around it.

        Raises:
            ConfigError: It can't be used, or class or name are taken.
        """
        _check_class(kind)
        name = kind.__qualname__.rpartition("<locals>.")[2] if name is None else name
        _check_name(kind, name)
        taken = self._by_name.get(name)
        if taken is not None and taken.kind is not kind:
            both = f"{_full_name(taken.kind)} and {_full_name(kind)}"
            raise ConfigError(f"errors: {both} have one name, {name!r}; give one of them another")
        known = self._by_class.get(kind)
        if known is not None and known.name != name:
            raise ConfigError(
                f"errors: {_full_name(kind)} is registered as {known.name!r} already, not {name!r}"
            )
        self._by_name[name] = self._by_class[kind] = _describe(kind, name)

    def name_of(self, kind: type[BaseException]) -> str | None:
        """Return the name of a class on the wire; None if it is not registered."""
        known = self._by_class.get(kind)
        return known.name if known is not None else None

    def state_of(self, exc: Exception) -> Any:
        """Return what travels of an exception whose class is registered."""
        return self._by_class[type(exc)].state_of(exc)

    def restore(self, remote: RemoteError) -> Exception | None:
        """Return the exception that *remote* tells of; None if its name is not registered."""
        known = self._by_name.get(remote.type)
        if known is None:
            return None
        made = known.make(remote, self._convert)
        # A StopIteration can't be raised into a future, whoever says that it is one of these.
        if not issubclass(type(made), known.kind) or issubclass(type(made), StopIteration):
            raise CodecError(f"from_rpc returned something else, a {type(made).__name__}")
        return made  # type: ignore[no-any-return]


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_class(kind: Any) -> None:
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        shown = _full_name(kind) if isinstance(kind, type) else f"a {type(kind).__name__}"
        raise ConfigError(f"errors: {shown} is no subclass of Exception")
    if issubclass(kind, StopIteration | StopAsyncIteration):
        raise ConfigError(f"errors: {_full_name(kind)} means the end of an iteration to Python")
    if kind is RpcError or (issubclass(kind, FastRPCError) and not issubclass(kind, RpcError)):
        raise ConfigError(
            f"errors: {_full_name(kind)} is fastrpc's own: it would say things about the call"
            " that are not so. Derive yours from RpcError or from an exception of Python's"
        )
    if hasattr(kind, "to_rpc") is not hasattr(kind, "from_rpc"):
        raise ConfigError(f"errors: {_full_name(kind)} must have both to_rpc and from_rpc")


def _check_name(kind: type, name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise ConfigError(
            f"errors: the name of {_full_name(kind)} must be 1 to {NAME_MAX} printable characters"
        )
    if name == RpcError.__name__:
        raise ConfigError(f"errors: {name!r} is the name of errors that have no class of their own")
    if class_named(name) is not None:
        raise ConfigError(f"errors: {name!r} is the name of a refusal of fastrpc's own")


def _describe(kind: type[Exception], name: str) -> _Known:
    """Look at a class once, so that what is wrong with it is known before it is raised."""
    types: dict[str, Any] = {}
    signature = None
    if inspect.isfunction(kind.__init__):
        whole = inspect.signature(kind.__init__)
        signature = whole.replace(parameters=list(whole.parameters.values())[1:])
        types = resolve_hints(_full_name(kind), kind.__init__, whole, dict(vars(kind)))
    declared = _declared(kind)
    named = signature.parameters if signature is not None else {}
    fields = [field for field in declared if field not in named]
    return _Known(
        name=name, kind=kind, signature=signature, types={**declared, **types}, fields=fields
    )


def _declared(kind: type[Exception]) -> dict[str, Any]:
    """Return the public attributes that a class declares, by annotation or slot."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as exc:
        raise ConfigError(
            f"errors: the annotations of {_full_name(kind)} can't be resolved: {exc}; import"
            " their names at the top of the module, not only for type checkers"
        ) from None
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            hints.setdefault(slot, Any)
    ours = typing.get_type_hints(RpcError) if issubclass(kind, RpcError) else {}
    return {
        name: hint
        for name, hint in hints.items()
        if not name.startswith("_")
        and name not in ours
        and name != ARGS_KEY
        and typing.get_origin(hint) is not typing.ClassVar
        and hint is not typing.ClassVar
    }
