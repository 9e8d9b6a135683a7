"""Describe a plain class or function as a service: methods, arguments, modes.

The user writes ordinary annotated Python; this module reads it once, when it is
registered, and writes down all that the rest of the house needs to know.

Rules of the room:
  * nothing of the user's is changed;
  * whatever can't be served is refused here, by name, not when a call comes.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from fastrpc.call.context import Call, Peer
from fastrpc.call.hints import is_stream, item_of, resolve_hints
from fastrpc.call.method import (
    MARK,
    MethodInfo,
    Mode,
    Parameter,
    ServiceInfo,
    Traits,
    check_name,
    rpc,
)
from fastrpc.call.suspend import can_suspend
from fastrpc.errors import ConfigError

__all__ = [
    "MethodInfo",
    "Mode",
    "Parameter",
    "ServiceInfo",
    "Traits",
    "check_name",
    "describe_service",
    "rpc",
]


def describe_service(
    obj: Any,
    name: str | None = None,
    *,
    version: str = "",
    group: str = "",
    default: bool = False,
) -> ServiceInfo:
    """Read an instance, a class, a function or a module as a service.

    Public methods of an instance become `Name.method`; a class is instantiated if
    that needs no arguments; a function is one method without a prefix; of a
    module those public functions count that are written in it or in `__all__`.

    Args:
        obj: What to serve.
        name: Name of the service, or of the function, instead of its own.
        version: Which of several that are served under one name.
        group: Which of several that run the same code.
        default: Whether it answers also those who name neither.

    Raises:
        ConfigError: It can't be served; the text names method and parameter.
    """
    found = _read(obj, name)
    if not (version or group):
        return found
    return replace(found, version=version, group=group, default=default)


def _read(obj: Any, name: str | None) -> ServiceInfo:
    if name is not None:
        check_name(name)
    if isinstance(obj, ModuleType):
        return _service(obj, name or obj.__name__.rpartition(".")[2], _module_functions(obj))
    if inspect.isclass(obj):
        obj = _instantiate(obj)
    elif _is_function(obj):
        return _function(obj, name)
    members = _public_methods(obj)
    if not members and callable(obj):
        return _function(obj, name or type(obj).__name__)
    return _service(obj, name or type(obj).__name__, members)


_METHODS = (
    FunctionType,
    BuiltinFunctionType,
    staticmethod,
    classmethod,
    functools.partial,
    functools.partialmethod,
)


def _instantiate(cls: type) -> Any:
    try:
        signature = inspect.signature(cls)
    except ValueError:  # written in C and not telling
        raise ConfigError(f"{cls.__name__} can't be made here; register an instance") from None
    needed = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ConfigError(
            f"{cls.__name__} needs arguments ({', '.join(needed)}); register an instance of it"
        )
    return cls()


def _is_function(obj: Any) -> bool:
    return inspect.isroutine(obj) or isinstance(obj, functools.partial)


def _function(fn: Callable[..., Any], name: str | None) -> ServiceInfo:
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    own_name = str(getattr(inner, "__name__", ""))
    chosen = name or _traits(fn, fn).name or own_name
    if chosen == own_name and not own_name.isidentifier():  # a lambda, for example
        raise ConfigError(f"a function named {chosen!r} needs a name; register it with name=...")
    method = _method(check_name(chosen), fn, fn, {})
    return ServiceInfo(name=chosen, doc=method.doc, methods={chosen: method})


def _module_functions(module: ModuleType) -> dict[str, Any]:
    named = getattr(module, "__all__", None)
    found: dict[str, Any] = {}
    for key, value in vars(module).items():
        if named is not None:
            wanted = key in named
        else:
            wanted = getattr(value, "__module__", None) == module.__name__
        if wanted and not key.startswith("_") and _is_function(value):
            found[key] = value
    return found


def _public_methods(obj: Any) -> dict[str, Any]:
    """Return what the classes of *obj* hold under public names, in written order."""
    found: dict[str, Any] = {}
    for cls in reversed(type(obj).__mro__):
        # What a dict, a Thread or an Enum brings along is nothing to call from outside.
        if cls.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        for key, value in vars(cls).items():
            if key.startswith("_"):
                continue
            if _is_method(value):
                found[key] = value
            else:
                found.pop(key, None)  # a subclass hid it
    return found


def _is_method(value: Any) -> bool:
    if inspect.isclass(value):
        return False
    if isinstance(value, _METHODS):
        return True
    # Compiled functions have code, and decorators that leave an object, such as
    # lru_cache, say what they wrap. Other objects with a call are data.
    return callable(value) and (hasattr(value, "__code__") or hasattr(value, "__wrapped__"))


def _service(obj: Any, name: str, members: dict[str, Any]) -> ServiceInfo:
    check_name(name)
    doc = inspect.getdoc(obj) if isinstance(obj, ModuleType) else _class_doc(type(obj))
    namespace = {} if isinstance(obj, ModuleType) else dict(vars(type(obj)))
    methods: dict[str, MethodInfo] = {}
    for key, stored in members.items():
        handler = getattr(obj, key)
        full = check_name(f"{name}.{_traits(handler, stored).name or key}")
        if full in methods:
            raise ConfigError(f"{name} has two methods called {full}")
        methods[full] = _method(full, handler, stored, namespace)
    if not methods:
        raise ConfigError(f"{name} has no public methods to serve")
    return ServiceInfo(name=name, doc=doc or "", methods=methods)


def _class_doc(cls: type) -> str:
    # Not inspect.getdoc: an undocumented class would show its base's text, and a
    # dataclass has a signature there that nobody wrote.
    doc = cls.__doc__ or ""
    return "" if doc.startswith(f"{cls.__name__}(") else inspect.cleandoc(doc)


def _traits(handler: Any, stored: Any) -> Traits:
    inner: Any = stored
    while inner is not None:
        for holder in (handler, inner):
            traits = getattr(holder, MARK, None)
            if isinstance(traits, Traits):
                return traits
        handler = inner
        inner = getattr(inner, "func", None) or getattr(inner, "__func__", None)
    return Traits()


def _method(
    name: str, handler: Callable[..., Any], stored: Any, namespace: dict[str, Any]
) -> MethodInfo:
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError):
        raise ConfigError(
            f"{name}: its signature can't be read; wrap it in a function of your own"
        ) from None
    hints = resolve_hints(name, handler, signature, namespace)
    parameters, filled = _parameters(name, signature, hints)
    returns = hints.get("return", Any)
    traits = _traits(handler, stored)
    doc = _doc(stored, handler)
    takes = any(item.kind == "items" for _, item in filled)
    mode, item, handler = _mode(name, handler, traits, takes, returns)
    return MethodInfo(
        name=name,
        handler=handler,
        doc=doc,
        parameters=parameters,
        returns=returns,
        mode=mode,
        traits=traits,
        item=item,
        filled=filled,
    )


_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_POSITIONAL: "rest",
    inspect.Parameter.VAR_KEYWORD: "keywords",
}


def _parameters(
    name: str, signature: inspect.Signature, hints: dict[str, Any]
) -> tuple[tuple[Parameter, ...], tuple[tuple[int, Parameter], ...]]:
    """Return what comes with the arguments, and what the server fills in, with its place."""
    parameters: list[Parameter] = []
    filled: list[tuple[int, Parameter]] = []
    place = 0
    for item in signature.parameters.values():
        kind = _filled_kind(hints.get(item.name, Any))
        if kind is None:
            parameters.append(_parameter(item, hints))
        else:
            if _KINDS[item.kind] not in ("positional", "keyword_only"):
                raise ConfigError(f"{name}: {item.name!r} must be a parameter with a name")
            if kind == "items" and any(other.kind == "items" for _, other in filled):
                raise ConfigError(f"{name}: {item.name!r} is a second stream; a call has one")
            hint = hints[item.name]
            annotation = item_of(hint) if kind == "items" else _without_none(hint)
            ordered = item.kind is not item.KEYWORD_ONLY
            given = Parameter(item.name, annotation, kind, required=kind == "items")
            filled.append((place if ordered else -1, given))
        place += item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    return tuple(parameters), tuple(filled)


def _filled_kind(annotation: Any) -> str | None:
    """Return "items" or "given" for what does not come with the arguments."""
    if is_stream(annotation):
        return "items"
    wanted = _without_none(annotation)
    return "given" if wanted in (Call, Peer) else None


def _without_none(annotation: Any) -> Any:
    """Return X of `X | None`, anything else as it is."""
    members = [item for item in typing.get_args(annotation) if item is not types.NoneType]
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return members[0] if union and len(members) == 1 else annotation


def _parameter(item: inspect.Parameter, hints: dict[str, Any]) -> Parameter:
    kind = _KINDS[item.kind]
    required = item.default is item.empty and kind not in ("rest", "keywords")
    default = None if item.default is item.empty else item.default
    return Parameter(
        name=item.name,
        annotation=hints.get(item.name, Any),
        kind=kind,
        required=required,
        default=default,
    )


def _doc(stored: Any, handler: Any) -> str:
    inner = stored
    while isinstance(inner, functools.partial | functools.partialmethod):
        inner = inner.func  # a partial's own docstring describes functools.partial
    doc = inspect.getdoc(inner) if inspect.isroutine(inner) else getattr(handler, "__doc__", None)
    return inspect.cleandoc(doc) if doc else ""


def _mode(
    name: str, handler: Callable[..., Any], traits: Traits, takes: bool, returns: Any
) -> tuple[Mode, Any, Callable[..., Any]]:
    """Return how to run a handler, the type of the items it gives, and what to call."""
    called: Any = handler
    if not (_is_function(handler) or inspect.isclass(handler)):
        called = getattr(handler, "__call__", handler)  # noqa: B004  its kind counts, not the object's
    inner = inspect.unwrap(called)
    plain = any(inspect.isgeneratorfunction(fn) for fn in (called, inner))
    gives = plain or inspect.isasyncgenfunction(called) or inspect.isasyncgenfunction(inner)
    gives = gives or is_stream(returns)
    coroutine = inspect.iscoroutinefunction(called)
    hidden = inspect.iscoroutinefunction(inner)
    if traits.blocking and (gives or takes or coroutine or hidden):
        raise ConfigError(f"{name}: blocking=True is for plain functions, not for async ones")
    if gives:
        return Mode.STREAM, item_of(returns), _item_by_item(handler) if plain else handler
    if takes:
        return Mode.STREAM, None, handler
    if traits.blocking:
        return Mode.THREAD, None, handler
    if coroutine:
        return (Mode.TASK if can_suspend(called) else Mode.INLINE), None, handler
    if hidden:
        return Mode.TASK, None, _awaited(handler)
    return Mode.SYNC, None, handler


def _item_by_item(handler: Callable[..., Iterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Make an async generator function of a plain one."""

    async def give(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for item in handler(*args, **kwargs):
            yield item

    return give


def _awaited(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Make a coroutine function of a plain wrapper around one."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = handler(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return call
