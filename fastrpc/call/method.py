"""Hold what is known about a method and a service, and what its author says.

Rules of the room:
  * plain frozen records; reading them from code is `service`'s work;
  * only `rpc` leaves a mark on a function of the user's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Final, Literal, TypeVar, get_args, overload

from fastrpc.call.fields import read_record
from fastrpc.call.fingerprint import fingerprint
from fastrpc.call.hints import type_text
from fastrpc.call.schema import Schema, SchemaBuilder, default_of, is_plain
from fastrpc.errors import ConfigError
from fastrpc.wire import LIMIT_CEILINGS

_F = TypeVar("_F", bound=Callable[..., Any])

#: The mark that `rpc` leaves on a function.
MARK = "__fastrpc__"

#: What becomes of a handler whose caller gives up: it is cancelled, or runs to its end.
Cancel = Literal["propagate", "shield"]

#: Most that one call may cost.
MAX_COST: Final = 1_000_000

#: Longest version or group of a service.
MAX_LABEL: Final = 64


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
        cancel: "propagate" if a caller's giving up cancels it, "shield" if not.
        cost: What one call takes from a budget of calls.
    """

    blocking: bool = False
    idempotent: bool = False
    name: str | None = None
    cancel: Cancel = "propagate"
    cost: int = 1

    def __post_init__(self) -> None:
        """Refuse names that can't be called, and traits that say nothing."""
        if self.name is not None:
            check_name(self.name)
        if self.cancel not in get_args(Cancel):
            raise ConfigError(f"cancel must be 'propagate' or 'shield', got {self.cancel!r}")
        if type(self.cost) is not int or not 1 <= self.cost <= MAX_COST:
            raise ConfigError(
                f"cost must be a whole number from 1 to {MAX_COST}, got {self.cost!r}"
            )


@overload
def rpc(fn: _F) -> _F: ...
@overload
def rpc(
    fn: None = None,
    *,
    blocking: bool = False,
    idempotent: bool = False,
    name: str | None = None,
    cancel: Cancel = "propagate",
    cost: int = 1,
) -> Callable[[_F], _F]: ...
def rpc(
    fn: _F | None = None,
    *,
    blocking: bool = False,
    idempotent: bool = False,
    name: str | None = None,
    cancel: Cancel = "propagate",
    cost: int = 1,
) -> _F | Callable[[_F], _F]:
    """Say more about a method than its annotations do; optional.

    Args:
        fn: The function, when used without parentheses.
        blocking: Run it in a thread; for plain functions that wait for something.
        idempotent: It may be sent again when nobody knows whether it ran.
        name: Name to call it by instead of the function's.
        cancel: "propagate" if a caller's giving up cancels it, "shield" if not.
        cost: What one call takes from a budget of calls.

    Raises:
        ConfigError: The name, `cancel` or `cost` can't be used.
    """
    traits = Traits(blocking=blocking, idempotent=idempotent, name=name, cancel=cancel, cost=cost)

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

    def schema(self, builder: SchemaBuilder) -> Schema:
        """Return the schema of what it gets, written by *builder*."""
        write = builder.stream if self.kind == "items" else builder.schema
        return write(self.annotation)

    def type_text(self) -> str:
        """Return its type as people write it."""
        text = type_text(self.annotation)
        return f"AsyncIterator[{text}]" if self.kind == "items" else text

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        told: dict[str, Any] = {
            "name": self.name,
            "type": self.type_text(),
            "kind": self.kind,
            "required": self.required,
        }
        if not self.required and self.kind not in ("rest", "keywords"):
            single = not isinstance(self.default, list | dict) and is_plain(self.default)
            told["default"] = self.default if single else repr(self.default)
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

    @property
    def shown(self) -> tuple[Parameter, ...]:
        """The parameters that callers see, the stream of items in its place."""
        shown = list(self.parameters)
        for place, parameter in self.filled:
            if parameter.kind == "items":
                shown.insert(place if place >= 0 else len(shown), parameter)
        return tuple(shown)

    def signature(self) -> str:
        """Return the signature as text, such as "add(a: int, b: int = 2) -> int"."""
        return f"{self.name.rpartition('.')[2]}{self.arguments_text()}{self._returns_text()}"

    def arguments_text(self) -> str:
        """Return the parameters as text, such as "(a: int, b: int = 2)"."""
        parts: list[str] = []
        shown = self.shown
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

    def result_schema(self, builder: SchemaBuilder) -> Schema:
        """Return the schema of what it gives, written by *builder*."""
        return builder.schema(self.returns) if self.item is None else builder.stream(self.item)

    def fingerprint(self) -> str:
        """Return what is the same for methods that look alike on the wire."""
        builder = SchemaBuilder()
        parameters = [
            (item.name, item.kind, item.required, item.schema(builder)) for item in self.shown
        ]
        return fingerprint(parameters, self.result_schema(builder), builder.defs)

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values, fit for any codec."""
        return {
            "name": self.name,
            "signature": self.signature(),
            "doc": self.doc,
            "fingerprint": self.fingerprint(),
            "mode": self.mode.name.lower(),
            "idempotent": self.traits.idempotent,
            "cancel": self.traits.cancel,
            "cost": self.traits.cost,
            "parameters": [parameter.describe() for parameter in self.shown],
            "returns": type_text(self.returns),
        }


def _parameter_text(parameter: Parameter) -> str:
    stars = {"rest": "*", "keywords": "**"}.get(parameter.kind, "")
    typed = parameter.annotation is not Any
    text = stars + parameter.name
    if typed or parameter.kind == "items":
        text += f": {parameter.type_text()}"
    if not parameter.required and not stars and parameter.kind != "items":
        text += f" = {parameter.default!r}" if typed else f"={parameter.default!r}"
    return text


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A set of methods registered together.

    Attributes:
        name: First part of its methods' names; for a function the whole name.
        doc: Its docstring, cleaned.
        methods: The methods by full name, in the order they are written.
        version: Which of several that are served under one name; "" for the plain one.
        group: Which of several that run the same code; "" for the plain one.
        default: Whether it answers also those who name neither.
    """

    name: str
    doc: str
    methods: dict[str, MethodInfo]
    version: str = ""
    group: str = ""
    default: bool = False

    def wire_names(self, method: str) -> list[str]:
        """Return what callers may call *method*, the plain name last."""
        own = method_key(method, self.version, self.group)
        return [own, method] if self.default else [own]

    def __post_init__(self) -> None:
        """Refuse labels that can't travel."""
        for method in self.methods:
            method_key(method, self.version, self.group)

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain values, fit for any codec."""
        return {
            "name": self.name,
            "version": self.version,
            "group": self.group,
            "default": self.default or not (self.version or self.group),
            "doc": self.doc,
            "methods": [method.describe() for method in self.methods.values()],
            "types": self._types(),
        }

    def _types(self) -> list[dict[str, Any]]:
        """Return the records and enumerations that the methods mention, as plain values."""
        builder = SchemaBuilder()
        for method in self.methods.values():
            for parameter in method.shown:
                parameter.schema(builder)
            method.result_schema(builder)
        return [_type(name, annotation) for name, annotation in builder.types.items()]


def _type(name: str, annotation: Any) -> dict[str, Any]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        values = [member.value for member in annotation]
        return {"name": name, "values": values if is_plain(values) else list(map(repr, values))}
    record = read_record(annotation)
    if record is None:  # `type X = ...`
        return {"name": name, "type": type_text(getattr(annotation, "__value__", annotation))}
    fields = [
        {
            "name": item.name,
            "type": type_text(item.annotation),
            "required": item.required,
            **default_of(item.default),
        }
        for item in record.fields
    ]
    return {"name": name, "fields": fields}


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


def method_key(name: str, version: str = "", group: str = "") -> str:
    """Return what a method is called on the wire: "Arith.add@2/eu", or just the name.

    Args:
        name: Full name of the method.
        version: Version of its service, "" for none.
        group: Group of its service, "" for none.

    Raises:
        ConfigError: The version or group can't be used, or all of it is too long.
    """
    if not (version or group):
        return name
    for what, text in (("version", version), ("group", group)):
        _check_label(what, text)
    if "@" in name or "/" in name:
        raise ConfigError(f"a method with a version or group has no @ or / in its name: {name!r}")
    return check_name(f"{name}@{version}" + (f"/{group}" if group else ""))


def _check_label(what: str, text: str) -> None:
    if not text.isprintable() or set(" @/") & set(text):
        raise ConfigError(f"a {what} is printable text without space, @ and /, got {text!r}")
    if len(text) > MAX_LABEL:
        raise ConfigError(f"a {what} has at most {MAX_LABEL} characters, got {len(text)}")
