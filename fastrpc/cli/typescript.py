"""Write the types of services in TypeScript, for the client in clients/js.

An interface for each service, with the types that its methods take and give: those of
`client.stub<Arith>("Arith")` and of `await client.service<Arith>("Arith")`.

What a type looks like may depend on the way: a field with a default may be left out of
what is sent, and is always there in what comes. Where that makes a difference and a type
goes both ways, it is written twice, the one that is sent with "Input" behind its name.

Rules of the room:
  * a contract comes from anybody: names become names of TypeScript or quoted text, and
    no text can end the comment it stands in;
  * every schema has a type, be it `unknown`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from fastrpc.call.document import parameter_schema
from fastrpc.call.fingerprint import reached
from fastrpc.call.schema import Schema

_Way = Literal["in", "out"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_REF: Final = "#/$defs/"
_WIDTH: Final = 100

#: Names that mean something where the types are written.
_TAKEN: Final = frozenset(
    re.findall(
        r"\S+",
        """
        Array AsyncIterable Date Functions Map Named NdArray Promise Set TypedArray Uint8Array any
        arguments as async await bigint boolean break case catch class const continue debugger
        default delete do else enum eval export extends false finally for function if implements
        import in instanceof interface let never new null number object package private protected
        public return static string super switch symbol this throw true try type typeof undefined
        unknown var void while with yield
        """,
    )
)

_HEAD: Final = """\
// Written by `fastrpc describe --ts`; change the service instead, and write it again.
//
// Integers past 2^53 arrive as bigint, whatever stands here. Times without a zone are text.
"""


def write_types(document: Mapping[str, Any]) -> str:
    """Return the text of a module with the types of a contract, for a file NAME.ts."""
    return _Module(document).text()


class _Module:
    """One module in the making."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._services: Sequence[Mapping[str, Any]] = document["services"]
        self._defs: Mapping[str, Schema] = document["$defs"]
        self._imports: set[str] = set()
        self._taken = set(_TAKEN)
        self._interfaces = [
            self._free(_label(service)) if not _is_function(service) else "Functions"
            for service in self._services
        ]
        self._names = {key: self._free(key) for key in self._defs}
        sent, given = self._roots()
        self._ways: dict[_Way, set[str]] = {
            "in": set(reached(sent, self._defs)),
            "out": set(reached(given, self._defs)),
        }
        self._inputs: dict[str, str] = {}  # no name differs yet
        self._twice = self._differing() & self._ways["in"] & self._ways["out"]
        self._inputs = {key: self._free(f"{self._names[key]}Input") for key in sorted(self._twice)}

    def text(self) -> str:
        """Return all of it."""
        types = [part for key in self._defs for part in self._definition(key)]
        services = [
            self._service(name, service)
            for name, service in zip(self._interfaces, self._services, strict=True)
            if not _is_function(service)
        ]
        functions = [service for service in self._services if _is_function(service)]
        if functions:
            services.append(self._functions(functions))
        parts = [_HEAD]
        if self._imports:
            names = ", ".join(sorted(self._imports))
            parts.append(f'import type {{ {names} }} from "fastrpc-client";\n')
        body = types + services or ["export {};\n"]  # without it, it would be no module
        return "\n".join(parts + body)

    # Names

    def _free(self, name: str) -> str:
        """Return a name of TypeScript that nothing else has."""
        plain = re.sub(r"[^A-Za-z0-9_$]+", "_", name).strip("_") or "Type"
        if not _IDENTIFIER.fullmatch(plain):
            plain = f"_{plain}"
        found, count = plain, 1
        while found in self._taken:
            count += 1
            found = f"{plain}_{count}"
        self._taken.add(found)
        return found

    def _name(self, key: str, way: _Way) -> str:
        return self._inputs[key] if way == "in" and key in self._inputs else self._names[key]

    def _roots(self) -> tuple[list[Schema], list[Schema]]:
        methods = [method for service in self._services for method in service["methods"]]
        return [each["arguments"] for each in methods], [each["result"] for each in methods]

    def _differing(self) -> set[str]:
        """Return the definitions that are not the same in both ways."""
        both = {
            key: [self._body(schema, way) for way in _WAYS] for key, schema in self._defs.items()
        }
        found = {key for key, (sent, given) in both.items() if sent != given}
        return found | {
            key for key, schema in self._defs.items() if found & set(reached([schema], self._defs))
        }

    # Definitions

    def _definition(self, key: str) -> list[str]:
        ways: list[_Way] = [way for way in _WAYS if key in self._ways[way]]
        if key not in self._twice:
            ways = ways[:1]
        return [self._declared(self._name(key, way), self._defs[key], way) for way in ways]

    def _declared(self, name: str, schema: Schema, way: _Way) -> str:
        head = _comment(schema.get("description", ""), "")
        if "properties" in schema:
            return f"{head}export interface {name} {self._fields(schema, way)}\n"
        return f"{head}export type {name} = {self._body(schema, way)};\n"

    def _fields(self, schema: Schema, way: _Way) -> str:
        """Return the fields of a record, a line each."""
        optional = self._optional(schema, way)
        lines = []
        for name, field in schema["properties"].items():
            mark = "?" if name in optional else ""
            lines.append(_comment(field.get("description", ""), "  "))
            lines.append(f"  {_property(name)}{mark}: {self._type(field, way)};\n")
        return "{\n" + "".join(lines) + "}"

    def _optional(self, schema: Schema, way: _Way) -> set[str]:
        if way == "out":
            return set(schema.get("x-omitted", ()))
        return set(schema["properties"]) - set(schema.get("required", ()))

    # Services

    def _service(self, name: str, service: Mapping[str, Any]) -> str:
        options = [
            f"{word}: {_quoted(service[word])}" for word in ("version", "group") if service[word]
        ]
        said = f", {{ {', '.join(options)} }}" if options else ""
        use = f"`client.stub<{name}>({_quoted(service['name'])}{said})`"
        doc = "\n\n".join(filter(None, [service.get("doc") or "", use]))
        lines = [_comment(doc, ""), f"export interface {name} {{\n"]
        prefix = f"{service['name']}."
        lines += [
            self._method(method["name"].removeprefix(prefix), method)
            for method in service["methods"]
        ]
        return "".join([*lines, "}\n"])

    def _functions(self, services: Sequence[Mapping[str, Any]]) -> str:
        lines = [
            _comment(
                'Functions that are served by themselves.\n\n`client.stub<Functions>("")`', ""
            ),
            "export interface Functions {\n",
        ]
        for service in services:
            if not (service["version"] or service["group"]):  # a stub of "" names neither
                lines += [self._method(service["name"], method) for method in service["methods"]]
        return "".join([*lines, "}\n"])

    def _method(self, name: str, method: Mapping[str, Any]) -> str:
        parameters, result = self._parameters(method), self._result(method)
        line = f"  {_property(name)}({', '.join(parameters)}): {result};\n"
        if len(line) > _WIDTH:
            each = ",\n".join(f"    {parameter}" for parameter in parameters)
            each += "\n" if parameters[-1].startswith("...") else ",\n"
            line = f"  {_property(name)}(\n{each}  ): {result};\n"
        return _comment(method.get("doc") or "", "  ") + line

    def _result(self, method: Mapping[str, Any]) -> str:
        schema = method["result"]
        if schema.get("x-stream"):
            return self._type(schema, "out")
        return f"Promise<{self._type(schema, 'out')}>"

    def _parameters(self, method: Mapping[str, Any]) -> list[str]:
        """Return the parameters: those in order, the items to send, those by name."""
        ordered: list[tuple[str, str, bool]] = []  # name, type, required
        items, rest, fields, more = "", "", [], ""
        needs_names = False
        for item in method["parameters"]:
            schema, kind, required = parameter_schema(method, item), item["kind"], item["required"]
            name, text = item["name"], self._type(schema, "in")
            if kind == "items":
                items = f"{_argument(name)}: {text}"
            elif kind == "rest":
                rest = text
            elif kind == "keywords":
                more = _map(text)
            elif kind == "keyword_only":
                fields.append(f"{_property(name)}{'' if required else '?'}: {text}")
                needs_names = needs_names or required
            else:
                ordered.append((_argument(name), text, required))
        named = self._named(fields, more)
        parts = [f"{name}: {text}" for name, text, required in ordered if required]
        parts += [items] if items else []
        for name, text, required in ordered:
            if not required:
                fixed = needs_names and not rest  # nothing optional stands before what is not
                parts.append(f"{name}: {text} | undefined" if fixed else f"{name}?: {text}")
        if rest:
            parts.append(f"...rest: {_array_of(_union([rest, *([named] if named else [])]))}")
        elif named:
            parts.append(f"named{'' if needs_names else '?'}: {named}")
        return parts

    def _named(self, fields: Sequence[str], more: str) -> str:
        if not (fields or more):
            return ""
        self._imports.add("Named")
        parts = [f"{{ {'; '.join(fields)} }}"] if fields else []
        return f"Named<{' & '.join([*parts, *([more] if more else [])])}>"

    # Types

    def _type(self, schema: Schema, way: _Way) -> str:
        """Return the type of what is sent ("in") or comes ("out")."""
        key = schema.get("$ref", "").removeprefix(_REF)
        if key in self._defs:
            return self._name(key, way)
        return self._body(schema, way)

    def _body(self, schema: Schema, way: _Way) -> str:
        if "$ref" in schema:
            return self._type(schema, way)
        if schema.get("x-stream"):
            return f"AsyncIterable<{self._type(schema.get('items', {}), way)}>"
        if "x-flags" in schema:
            return "number"
        if "enum" in schema:
            return _union(_quoted(value) for value in schema["enum"])
        if "anyOf" in schema:
            return _union(self._type(member, way) for member in schema["anyOf"])
        if schema.get("x-type") == "numpy.ndarray":
            self._imports |= {"NdArray", "TypedArray"}
            return "NdArray | TypedArray"
        kind = schema.get("type")
        if kind == "string":
            return _text_type(schema, way)
        if kind == "array":
            return self._array(schema, way)
        if kind == "object":
            return self._object(schema, way)
        return _PLAIN.get(kind, "unknown") if isinstance(kind, str) else "unknown"

    def _array(self, schema: Schema, way: _Way) -> str:
        if "prefixItems" in schema:
            least = schema.get("minItems", 0)
            parts = [self._type(item, way) for item in schema["prefixItems"]]
            parts = [
                text if at < least or way == "out" else f"({text})?"
                for at, text in enumerate(parts)
            ]
            if "maxItems" not in schema:
                parts.append("...unknown[]")
            return f"[{', '.join(parts)}]"
        if schema.get("maxItems") == 0:
            return "[]"
        item = self._type(schema.get("items", {}), way)
        if schema.get("uniqueItems") and way == "in":
            return f"{_array_of(item)} | Set<{item}>"
        return _array_of(item)

    def _object(self, schema: Schema, way: _Way) -> str:
        if "properties" in schema:
            return " ".join(self._fields(schema, way).split())
        inner = schema.get("additionalProperties", {})
        value = self._type(inner if isinstance(inner, dict) else {}, way)
        key = schema.get("x-key", {"type": "string"})
        plain = self._defs.get(key.get("$ref", "").removeprefix(_REF), key)
        if plain.get("type") == "string":
            if "enum" in plain:
                return f"{{ [key in {self._type(key, way)}]?: {value} }}"
            return _map(value)
        if way == "in" and plain:  # in JavaScript only a Map has keys that are no text
            return f"Map<{self._type(key, way)}, {value}>"
        return _map(value)


_WAYS: Final[tuple[_Way, ...]] = ("in", "out")
_PLAIN: Final = {"null": "null", "boolean": "boolean", "integer": "number", "number": "number"}


def _map(value: str) -> str:
    return f"{{ [key: string]: {value} }}"  # a Record can't hold the type it stands in


def _text_type(schema: Schema, way: _Way) -> str:
    if "contentEncoding" in schema:
        return "Uint8Array"
    if schema.get("format") == "date-time":
        zone = schema.get("x-timezone")
        if zone is False:
            return "string"
        return "Date" if zone and way == "out" else "Date | string"
    if schema.get("format") == "decimal" and way == "in":
        return "string | number"
    return "string"


def _union(members: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(members)) or "never"


def _array_of(item: str) -> str:
    return f"({item})[]" if re.search(r"[|&]", item) else f"{item}[]"


def _is_function(service: Mapping[str, Any]) -> bool:
    return [method["name"] for method in service["methods"]] == [service["name"]]


def _label(service: Mapping[str, Any]) -> str:
    return "_".join(filter(None, (service["name"], service["version"], service["group"])))


def _quoted(value: object) -> str:
    return json.dumps(value)  # ASCII only


def _property(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _quoted(name)


def _argument(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_$]+", "_", name)
    if not _IDENTIFIER.fullmatch(plain):
        plain = f"_{plain}"
    return f"{plain}_" if plain in _TAKEN else plain


def _comment(text: str, indent: str) -> str:
    """Return *text* as the comment that editors show, with nothing in it that could end it."""
    shown = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    lines = [line.rstrip() for line in shown.strip().replace("*/", "*\\/").split("\n")]
    if lines == [""]:
        return ""
    if len(lines) == 1 and len(indent + lines[0]) <= _WIDTH - 8:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"
