"""Write classes that have the exact types of a stub, for type checkers.

`client.stub(Shop)` is typed as `Shop`, which is right for its `async def` methods on
an asyncio client and for its `def` methods on a blocking one. The classes written
here are right for all: `ShopAsync` gives awaitables and async streams, `ShopSync`
plain results and iterators. Given to `client.stub`, they stand for the class they
were made from.

Rules of the room:
  * what is written is Python that needs nothing but the user's own modules and ours;
  * names of methods hide nothing: what is named like a method is imported under
    another name.
"""

import builtins
import enum
import keyword
import math
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, Union

from fastrpc.call import MethodInfo, Parameter, describe_service
from fastrpc.call.method import MARK
from fastrpc.errors import ConfigError
from fastrpc.session.stub import attribute_of, bare_instance

_INDENT = "    "
# Where formatters break lines, most of them or earlier.
_WIDTH = 88


def write_stubs(service: type, kinds: Iterable[str], *, interface: bool) -> str:
    """Return the text of a module with stub classes of *service*.

    Args:
        service: The class that is served.
        kinds: "Async", "Sync" or both.
        interface: For a `.pyi`, which is never run.

    Raises:
        ConfigError: A type can't be imported from where it is, or the class is no
            service.
    """
    return _Module(service, interface=interface).text(kinds)


class _Module:
    """One module in the making."""

    def __init__(self, service: type, *, interface: bool) -> None:
        self._service = service
        self._interface = interface
        info = describe_service(bare_instance(service), service.__name__)
        self._methods = [(attribute_of(service, m), m) for m in info.methods.values()]
        # Names that mean something else in the text; an import of them gets another.
        self._taken = {name for name, _ in self._methods}
        self._taken |= {f"{service.__name__}{kind}" for kind in ("Async", "Sync")}
        self._imports: dict[tuple[str, str], str] = {}
        self._defaults = False

    def text(self, kinds: Iterable[str]) -> str:
        """Return all of it."""
        classes = [self._class(kind) for kind in kinds]
        if self._defaults:
            self._name("typing", "Any")
        source = self._service.__module__
        head = [
            "# fmt: off",
            "# ruff: noqa",
            f'"""What stubs of {source}.{self._service.__qualname__} take and give.',
            "",
            "Written by `fastrpc stubs`; change the class instead, and write it again.",
            '"""',
            "",
            *self._import_lines(),
        ]
        if self._defaults:
            head += ["", "# A default that only the server knows; it is never sent."]
            head += [f"_DEFAULT: {self._name('typing', 'Any')} = ..."]
        return "\n".join(head) + "\n" + "".join(f"\n\n{text}" for text in classes)

    def _class(self, kind: str) -> str:
        lines = [f"class {self._service.__name__}{kind}:"]
        lines += self._doc(vars(self._service).get("__doc__") or "", _INDENT)
        class_var = self._name("typing", "ClassVar")
        mark = f"{_INDENT}{MARK}: {class_var}[type]"
        lines += [mark if self._interface else f"{mark} = {self._reference(self._service)}"]
        for name, method in self._methods:
            lines += ["", *self._method(name, method, kind)]
        return "\n".join(lines) + "\n"

    def _method(self, name: str, method: MethodInfo, kind: str) -> list[str]:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ConfigError(f"{method.name}: {name!r} is no name in Python")
        parameters, result = self._parameters(method, kind), self._result(method, kind)
        head = [f"{_INDENT}def {name}({', '.join(parameters)}) -> {result}:"]
        if len(head[0]) > _WIDTH:
            each = [f"{_INDENT * 2}{parameter}," for parameter in parameters]
            head = [f"{_INDENT}def {name}(", *each, f"{_INDENT}) -> {result}:"]
        body = "..." if self._interface else "raise NotImplementedError"
        return [*head, *self._doc(method.doc, _INDENT * 2), _INDENT * 2 + body]

    @staticmethod
    def _doc(doc: str, indent: str) -> list[str]:
        first = " ".join(doc.strip().partition("\n\n")[0].split())
        escaped = first.replace("\\", "\\\\").replace('"""', "'''")
        closed = escaped + " " if escaped.endswith('"') else escaped
        return [f'{indent}"""{closed}"""'] if first else []

    # Parameters and results

    def _parameters(self, method: MethodInfo, kind: str) -> list[str]:
        parts = ["self"]
        kinds = [item.kind for item in method.shown]
        starred = "rest" in kinds
        for index, item in enumerate(method.shown):
            if item.kind == "keyword_only" and not starred:
                parts.append("*")
                starred = True
            parts.append(self._parameter(method, item, kind))
            if item.kind == "positional_only" and "positional_only" not in kinds[index + 1 :]:
                parts.append("/")
        return parts

    def _parameter(self, method: MethodInfo, item: Parameter, kind: str) -> str:
        text = self._type(item.annotation, method)
        if item.kind == "items":
            shape = "AsyncIterable" if kind == "Async" else "Iterable"
            text = self._of("collections.abc", shape, text)
        stars = {"rest": "*", "keywords": "**"}.get(item.kind, "")
        default = "" if item.required or stars else f" = {self._default(item.default)}"
        return f"{stars}{item.name}: {text}{default}"

    def _result(self, method: MethodInfo, kind: str) -> str:
        if method.item is not None:
            module, shape = _STREAMS[kind]
            return self._of(module, shape, self._type(method.item, method))
        text = self._type(method.returns, method)
        return text if kind == "Sync" else self._of("collections.abc", "Awaitable", text)

    def _default(self, value: Any) -> str:
        if isinstance(value, enum.Enum) and value.name:
            return f"{self._reference(type(value))}.{value.name}"
        finite = type(value) is float and math.isfinite(value)
        if value is None or finite or type(value) in (bool, int, str, bytes):
            return repr(value)
        if self._interface:
            return "..."
        self._defaults = True
        return "_DEFAULT"

    # Types

    def _type(self, annotation: Any, method: MethodInfo) -> str:
        try:
            return self._written(annotation)
        except ConfigError as error:
            raise ConfigError(f"{method.name}: {error}") from None

    def _written(self, annotation: Any) -> str:
        if annotation is None or annotation is types.NoneType:
            return "None"
        if annotation is Ellipsis:
            return "..."
        if annotation is Any or isinstance(annotation, typing.TypeVar):
            return self._name("typing", "Any")
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            return self._written(args[0])
        if origin is Literal:
            values = ", ".join(self._literal(value) for value in args)
            return f"{self._name('typing', 'Literal')}[{values}]"
        if origin in (Union, types.UnionType):
            return " | ".join(self._written(member) for member in args)
        if origin is not None and args:
            inner = ", ".join(self._written(arg) for arg in args)
            return f"{self._reference(origin)}[{inner}]"
        if annotation == tuple[()]:
            return f"{self._reference(tuple)}[()]"
        return self._reference(annotation)

    def _literal(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return f"{self._reference(type(value))}.{value.name}"
        return repr(value)

    def _of(self, module: str, name: str, inner: str) -> str:
        return f"{self._name(module, name)}[{inner}]"

    def _reference(self, thing: Any) -> str:
        """Return the words for a class or alias, and import its module."""
        thing = typing.get_origin(thing) or thing
        module = getattr(thing, "__module__", None)
        name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ConfigError(f"the type {thing!r} has no name that could be imported")
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise ConfigError(
                f"the type {name} can't be imported from {module}; write it at the top of a module"
            )
        return self._name(module, name)

    def _name(self, module: str, name: str) -> str:
        """Return the words for *name* of *module*, and see to its import."""
        first, dot, rest = name.partition(".")
        if module == "builtins" and first not in self._taken:
            return name
        key = module, first
        if key not in self._imports:
            free = first not in self._taken and not hasattr(builtins, first)
            plain = f"_{module}_{first}".replace(".", "_")
            self._imports[key] = first if free else plain
            self._taken.add(self._imports[key])
        return self._imports[key] + dot + rest

    def _import_lines(self) -> list[str]:
        by_module: dict[str, list[str]] = {}
        for (module, name), local in sorted(self._imports.items()):
            said = name if local == name else f"{name} as {local}"
            by_module.setdefault(module, []).append(said)
        return [f"from {module} import {', '.join(said)}" for module, said in by_module.items()]


#: What a stream is at the caller, by kind of stub.
_STREAMS = {"Async": ("fastrpc", "Stream"), "Sync": ("collections.abc", "Iterator")}
