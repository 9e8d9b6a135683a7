"""Match what a caller sent with a method's parameters, and say what is wrong.

This is the slow path: plain positional calls of the right shape never come here.
It takes the payload decoded without types, so that it can name the argument that
doesn't fit.

Rules of the room:
  * the handler is called only if everything fits;
  * texts name the method and the argument, and types, never the value sent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastrpc.call.method import MethodInfo, Parameter
from fastrpc.errors import InvalidArgument

#: Key of a map payload that holds the positional arguments.
POSITIONAL_KEY = "*"


@dataclass(slots=True)
class Bound:
    """Arguments with the parameters they belong to, not yet converted."""

    positional: list[tuple[Parameter, Any]] = field(default_factory=list)
    keywords: list[tuple[str, Parameter, Any]] = field(default_factory=list)


def split_payload(info: MethodInfo, payload: object) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments that a decoded payload holds.

    An array is the positional ones, a map the keyword ones; a map with the key
    "*" has an array of positional ones there. Bytes (the raw codec) are one.

    Raises:
        InvalidArgument: It is none of these.
    """
    if isinstance(payload, list | tuple):
        return list(payload), {}
    if isinstance(payload, bytes):
        return ([payload] if payload or info.parameters else []), {}
    if not isinstance(payload, dict):
        raise _invalid(info, f"arguments must be an array or a map, got {type(payload).__name__}")
    keywords = dict(payload)
    positional = keywords.pop(POSITIONAL_KEY, [])
    if not isinstance(positional, list | tuple):
        raise _invalid(info, f"'*' must hold an array, got {type(positional).__name__}")
    for key in keywords:
        if not isinstance(key, str):
            raise _invalid(info, f"argument names must be str, got {type(key).__name__}")
    return list(positional), keywords


def bind(info: MethodInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
    """Give every argument its parameter, as Python itself would.

    Raises:
        InvalidArgument: One is missing, unexpected, or given twice.
    """
    bound = Bound()
    ordered = [item for item in info.parameters if item.kind.startswith("positional")]
    rest = next((item for item in info.parameters if item.kind == "rest"), None)
    bound.positional.extend(zip(ordered, args, strict=False))
    extra = args[len(ordered) :]
    if extra and rest is None:
        raise _invalid(info, f"{_takes(len(ordered))}, got {len(args)}")
    if rest is not None:
        bound.positional.extend((rest, value) for value in extra)
    given = {item.name for item, _ in bound.positional if item is not rest}
    _bind_keywords(info, bound, kwargs, given)
    for item in info.parameters:
        if item.required and item.name not in given:
            raise _invalid(info, f"argument {item.name!r} is missing")
    return bound


def _bind_keywords(
    info: MethodInfo, bound: Bound, kwargs: Mapping[str, Any], given: set[str]
) -> None:
    named = {i.name: i for i in info.parameters if i.kind in ("positional", "keyword_only")}
    keywords = next((item for item in info.parameters if item.kind == "keywords"), None)
    for key, value in kwargs.items():
        item = named.get(key, keywords)
        if item is None:
            raise _invalid(info, _unexpected(info, key))
        if item is not keywords:
            if key in given:
                raise _invalid(info, f"argument {key!r} is given twice, by position and by name")
            given.add(key)
        bound.keywords.append((key, item, value))


def _takes(count: int) -> str:
    if count == 0:
        return "takes no positional arguments"
    return f"takes at most {count} positional argument{'s' if count > 1 else ''}"


def _unexpected(info: MethodInfo, key: str) -> str:
    if any(item.name == key and item.kind == "positional_only" for item in info.parameters):
        return f"argument {key!r} can be given by position only"
    shown = key if len(key) <= 40 else f"{key[:40]}..."
    return f"unexpected argument {shown!r}; the method takes {info.arguments_text()}"


def positional_types(info: MethodInfo) -> tuple[list[Any], int, Any] | None:
    """Return what a codec's `arguments` takes: types, how many are required, type of the rest.

    None if the method can't be called with positional arguments alone.
    """
    if any(item.kind == "keyword_only" and item.required for item in info.parameters):
        return None
    ordered = [item for item in info.parameters if item.kind.startswith("positional")]
    required = sum(item.required for item in ordered)
    rest = next((item.annotation for item in info.parameters if item.kind == "rest"), None)
    return [item.annotation for item in ordered], required, rest


def read_arguments(
    info: MethodInfo, payload: object, convert: Callable[[object, object], object]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments to call the handler with, checked and converted.

    Args:
        info: The method.
        payload: The payload as the codec decodes it without types.
        convert: The codec's `convert`.

    Raises:
        InvalidArgument: They don't fit; the text names method and argument.
    """
    args, kwargs = split_payload(info, payload)
    bound = bind(info, args, kwargs)
    positional = [_convert(info, item, value, convert) for item, value in bound.positional]
    keywords = {
        key: _convert(info, item, value, convert, key) for key, item, value in bound.keywords
    }
    return positional, keywords


def _convert(
    info: MethodInfo,
    parameter: Parameter,
    value: object,
    convert: Callable[[object, object], object],
    name: str | None = None,
) -> object:
    if parameter.annotation is Any:
        return value
    try:
        return convert(value, parameter.annotation)
    except Exception as error:
        raise explain(info, name or parameter.name, error) from error


def fill(
    info: MethodInfo, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with *values* in the places of `info.filled`."""
    all_args, all_kwargs = list(args), dict(kwargs)
    for (place, parameter), value in zip(info.filled, values, strict=True):
        if 0 <= place <= len(all_args):
            all_args.insert(place, value)
        else:
            all_kwargs[parameter.name] = value
    return all_args, all_kwargs


def explain(info: MethodInfo, argument: str, error: Exception) -> InvalidArgument:
    """Return the error for an argument that a codec could not convert.

    Args:
        info: The method.
        argument: Name of the parameter.
        error: What the codec raised; if it has a `path` and a `problem`, as
            `codec.Mismatch` has, they say where inside the argument.
    """
    path = getattr(error, "path", "")
    problem = getattr(error, "problem", "") or str(error) or type(error).__name__
    where = f"argument {argument!r}, {path}" if path else f"argument {argument!r}"
    return _invalid(info, f"{where}: {problem}")


def _invalid(info: MethodInfo, text: str) -> InvalidArgument:
    return InvalidArgument(f"{info.name}: {text}", method=info.name)
