"""Read annotations: resolve them, and write them as people do.

Rules of the room:
  * an annotation that can't be resolved is an error with the parameter's name,
    never silently Any;
  * what is not annotated is Any.
"""

import collections.abc as cabc
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union

from fastrpc.errors import ConfigError

_STREAMS = (cabc.AsyncIterator, cabc.AsyncIterable, cabc.AsyncGenerator)


def is_stream(annotation: Any) -> bool:
    """Tell whether *annotation* says items that come one by one."""
    return (typing.get_origin(annotation) or annotation) in _STREAMS


def item_of(annotation: Any) -> Any:
    """Return the type of the items that *annotation* says come one by one; Any if it does not."""
    item = next(iter(typing.get_args(annotation)), Any)
    return types.NoneType if item is None else item


def resolve_hints(
    name: str,
    handler: Callable[..., Any],
    signature: inspect.Signature,
    namespace: dict[str, Any],
) -> dict[str, Any]:
    """Return the types of a method's parameters and of "return".

    Args:
        name: The method's name, for errors.
        handler: The callable as it is served.
        signature: Its signature; only what is named there is resolved.
        namespace: Names of the class around it, for annotations as text.

    Raises:
        ConfigError: One can't be resolved; the text names method and parameter.
    """
    fn = _annotated(handler)
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except Exception:  # one of them is wrong: go through them to find which
        hints = _one_by_one(name, fn, signature, namespace)
    hints = {key: _plain(hint) for key, hint in hints.items()}
    for parameter in signature.parameters.values():
        # `limit: int = None` is written a lot and means that None is fine.
        if parameter.default is None and hints.get(parameter.name, Any) is not Any:
            hints[parameter.name] = _or_none(hints[parameter.name])
    return hints


def _annotated(handler: Any) -> Any:
    """Return the function that carries the annotations of *handler*."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif inspect.ismethod(handler):
            handler = handler.__func__
        else:
            break
    if not (inspect.isroutine(handler) or hasattr(handler, "__wrapped__")):
        handler = type(handler).__call__
    return inspect.unwrap(handler)


def _one_by_one(
    name: str, fn: Any, signature: inspect.Signature, namespace: dict[str, Any]
) -> dict[str, Any]:
    scope = getattr(fn, "__globals__", {})
    hints: dict[str, Any] = {}
    try:
        annotations = inspect.get_annotations(fn)
    except Exception as error:  # 3.14 evaluates them only now
        raise ConfigError(f"{name}: its annotations can't be resolved: {error}") from None
    for key, annotation in annotations.items():
        if key != "return" and key not in signature.parameters:
            continue  # bound by a partial: nobody sends it
        holder = types.SimpleNamespace(__annotations__={key: annotation})
        try:
            hints |= typing.get_type_hints(holder, scope, namespace, include_extras=True)
        except Exception as error:
            what = "its result" if key == "return" else f"parameter {key!r}"
            raise ConfigError(
                f"{name}: the annotation of {what}, {annotation!r}, can't be resolved: {error}; "
                "import its names at the top of the module, not only for type checkers"
            ) from None
    return hints


def _plain(hint: Any) -> Any:
    return Any if hint is inspect.Parameter.empty or hint is object else hint


def _or_none(hint: Any) -> Any:
    return typing.Optional[hint]  # noqa: UP045  a text has no |


def type_text(annotation: Any) -> str:
    """Return a type as people write it, such as "dict[str, list[int]]"."""
    if annotation is Any or annotation is inspect.Parameter.empty:
        return "Any"
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(repr(item) for item in args)}]"
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(item) for item in args)
    if origin is not None and args:
        return f"{_name(origin)}[{', '.join(_argument_text(item) for item in args)}]"
    return _name(annotation)


def _argument_text(item: Any) -> str:
    if isinstance(item, list):  # of a Callable
        return f"[{', '.join(type_text(part) for part in item)}]"
    return type_text(item)


def _name(annotation: Any) -> str:
    name = getattr(annotation, "__name__", None)
    return name if isinstance(name, str) else str(annotation).removeprefix("typing.")
