"""Hold what is known about a method and a service, and what its author says.

Rules of the room:
  * plain frozen records; reading them from code is `service`'s work;
  * only `rpc` leaves a mark on a function of the user's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar, overload

from fastrpc.call.hints import type_text
from fastrpc.errors import ConfigError
from fastrpc.wire import LIMIT_CEILINGS

_F = TypeVar("_F", bound=Callable[..., Any])

#: The mark that `rpc` leaves on a function.
MARK = "__fastrpc__"


class Mode(IntEnum):
    """How a method is run."""

    SYNC = 0  #: called on the loop
    INLINE = 1  #: a coroutine without any await: driven to its end at once
    TASK = 2  #: a coroutine: gets a task
    THREAD = 3  #: called in a thread, because it blocks
    STREAM = 4  #: takes or gives a stream


@dataclass(frozen=True, slots=True)
class Traits:
    """What the author of a method says about it.

    Attributes:
        blocking: It blocks, so it runs in a thread.
        idempotent: Running it twice does no more than running it once.
        name: Name to call it by instead of the function's.
    """

    blocking: bool = False
    idempotent: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that can't be called."""
        if self.name is not None:
            check_name(self.name)


@overload
def rpc(fn: _F) -> _F: ...
@overload
def rpc(
    fn: None = None, *, blocking: bool = False, idempotent: bool = False, name: str | None = None
) -> Callable[[_F], _F]: ...
def rpc(
    fn: _F | None = None,
    *,
    blocking: bool = False,
    idempotent: bool = False,
    name: str | None = None,
) -> _F | Callable[[_F], _F]:
    """Say more about a method than its annotations do; optional.

    Args:
        fn: The function, when used without parentheses.
        blocking: Run it in a thread; for plain functions that wait for something.
        idempotent: It may be sent again when nobody knows whether it ran.
        name: Name to call it by instead of the function's.

    Raises:
        ConfigError: The name can't be used.
    """
    traits = Traits(blocking=blocking, idempotent=idempotent, name=name)

    def mark(fn: _F) -> _F:
        setattr(fn, MARK, traits)
        return fn

    return mark if fn is None else mark(fn)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: Its name.
        annotation: Its type; Any if there is none.
        kind: "positional", "positional_only", "keyword_only", "rest" (`*args`),
            "keywords" (`**kwargs`), "items" (a stream of the caller's, of type
            *annotation* each) or "given" (the server fills it in).
        required: It has no default.
        default: The default, None if there is none.
    """

    name: str
    annotation: Any
    kind: str
    required: bool
    default: Any = None

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        told: dict[str, Any] = {
            "name": self.name,
            "type": type_text(self.annotation),
            "kind": self.kind,
            "required": self.required,
        }
        if not self.required and self.kind not in ("rest", "keywords"):
            plain = self.default is None or type(self.default) in (bool, int, float, str)
            told["default"] = self.default if plain else repr(self.default)
        return told


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """One method as it is served.

    Attributes:
        name: What callers call it, such as "Arith.add".
        handler: The bound callable.
        doc: Its docstring, cleaned.
        parameters: Its parameters in order, without `self`.
        returns: Type of the result; Any if it isn't annotated.
        mode: How it is run.
        traits: What its author says about it.
        item: Type of the items it gives, None if it gives no stream.
        filled: Position and parameter of what doesn't come with the arguments.
    """

    name: str
    handler: Callable[..., Any]
    doc: str
    parameters: tuple[Parameter, ...]
    returns: Any
    mode: Mode
    traits: Traits = field(default_factory=Traits)
    item: Any = None
    filled: tuple[tuple[int, Parameter], ...] = ()

    @property
    def takes(self) -> Parameter | None:
        """The parameter that gets the caller's items, if there is one."""
        return next((item for _, item in self.filled if item.kind == "items"), None)

    def signature(self) -> str:
        """Return the signature as text, such as "add(a: int, b: int = 2) -> int"."""
        return f"{self.name.rpartition('.')[2]}{self.arguments_text()}{self._returns_text()}"

    def arguments_text(self) -> str:
        """Return the parameters as text, such as "(a: int, b: int = 2)"."""
        parts: list[str] = []
        shown = list(self.parameters)
        for place, parameter in self.filled:
            if parameter.kind == "items":
                shown.insert(place if place >= 0 else len(shown), parameter)
        kinds = [parameter.kind for parameter in shown]
        for index, parameter in enumerate(shown):
            if parameter.kind == "keyword_only" and not {"rest", "*"} & set(kinds[:index]):
                parts.append("*")
                kinds[index] = "*"
            parts.append(_parameter_text(parameter))
            if parameter.kind == "positional_only" and "positional_only" not in kinds[index + 1 :]:
                parts.append("/")
        return f"({', '.join(parts)})"

    def _returns_text(self) -> str:
        return "" if self.returns is Any else f" -> {type_text(self.returns)}"

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values, fit for any codec."""
        told = {
            "name": self.name,
            "signature": self.signature(),
            "doc": self.doc,
            "mode": self.mode.name.lower(),
            "idempotent": self.traits.idempotent,
            "parameters": [parameter.describe() for parameter in self.parameters],
            "returns": type_text(self.returns),
        }
        if self.takes is not None:
            told["takes"] = type_text(self.takes.annotation)
        if self.item is not None:
            told["gives"] = type_text(self.item)
        return told


def _parameter_text(parameter: Parameter) -> str:
    stars = {"rest": "*", "keywords": "**"}.get(parameter.kind, "")
    typed = parameter.annotation is not Any
    text = stars + parameter.name
    if parameter.kind == "items":
        return f"{text}: AsyncIterator[{type_text(parameter.annotation)}]"
    if typed:
        text += f": {type_text(parameter.annotation)}"
    if not parameter.required and not stars:
        text += f" = {parameter.default!r}" if typed else f"={parameter.default!r}"
    return text


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A set of methods registered together.

    Attributes:
        name: First part of its methods' names; for a function the whole name.
        doc: Its docstring, cleaned.
        methods: The methods by full name, in the order they are written.
    """

    name: str
    doc: str
    methods: dict[str, MethodInfo]

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values, fit for any codec."""
        return {
            "name": self.name,
            "doc": self.doc,
            "methods": [method.describe() for method in self.methods.values()],
        }


def check_name(name: str) -> str:
    """Return *name* if it can be the name of a service or method.

    Raises:
        ConfigError: It is empty, too long, or has spaces or control characters.
    """
    longest = LIMIT_CEILINGS["max_name"]
    if not name or not name.isprintable() or " " in name:
        raise ConfigError(f"a name must be printable text without spaces, got {name!r}")
    if name == "*" or name.startswith("_") or "._" in name:
        raise ConfigError(f"names that begin with _ are private, got {name!r}")
    if len(name.encode("utf-8", "replace")) > longest:
        raise ConfigError(f"a name has at most {longest} bytes, got {len(name.encode())}: {name!r}")
    return name
