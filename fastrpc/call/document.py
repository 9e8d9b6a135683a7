"""Write the contract of services as one JSON document.

A contract is what callers may rely on: methods, parameters, types, traits. It is
written from described services, sent by a server that is asked for it, kept in files
next to the code, and compared with an older one by `diff`.

Rules of the room:
  * plain values only, the same for the same code;
  * what is taken apart here was written here, or went through `reading`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastrpc.call.fingerprint import reached
from fastrpc.call.method import MethodInfo, Parameter, ServiceInfo
from fastrpc.call.schema import DIALECT, Schema, SchemaBuilder, default_of
from fastrpc.errors import ConfigError

#: Version of the form of the document.
FORM: Final = 1

#: The keys of the document.
CONTRACT_KEYS: Final = ("$schema", "fastrpc", "services", "$defs")


def write_document(services: Iterable[ServiceInfo]) -> dict[str, Any]:
    """Return the contract of *services* as plain values, fit for any codec.

    It is what `describe` tells, and for each method `arguments`, a schema of the
    map of its arguments, and `result`. `$defs` belongs to all of them.
    """
    builder = SchemaBuilder()
    told = []
    for service in services:
        methods = [
            {**method.describe(), **_schemas(method, builder)}
            for method in service.methods.values()
        ]
        told.append({**service.describe(), "methods": methods})
    return {"$schema": DIALECT, "fastrpc": FORM, "services": told, "$defs": builder.defs}


def _schemas(method: MethodInfo, builder: SchemaBuilder) -> dict[str, Any]:
    return {
        "arguments": _arguments(method, builder),
        "result": method.result_schema(builder),
    }


def _arguments(method: MethodInfo, builder: SchemaBuilder) -> Schema:
    """Return the schema of a call's arguments as a map, `*` for those without a name."""
    schema: Schema = {"type": "object", "properties": {}}
    if method.doc:
        schema["description"] = method.doc
    rest: Schema = {"type": "array", "prefixItems": [], "minItems": 0}
    required = []
    for item in method.parameters:
        written = _parameter(item, builder)
        if item.kind == "positional_only":
            rest["prefixItems"].append({**written, "title": item.name})
            rest["minItems"] += item.required
        elif item.kind == "rest":
            rest["items"] = written
        elif item.kind == "keywords":
            schema["additionalProperties"] = written
        else:
            schema["properties"][item.name] = written
            required += [item.name] * item.required
    if rest["prefixItems"] or "items" in rest:
        if "items" not in rest:
            rest["maxItems"] = len(rest["prefixItems"])
        if not rest["prefixItems"]:
            del rest["prefixItems"]
        schema["properties"]["*"] = rest
        required += ["*"] * (rest["minItems"] > 0)
    schema.setdefault("additionalProperties", False)
    if required:
        schema["required"] = required
    ordered = [item.name for item in method.parameters if item.kind.startswith("positional")]
    return {**schema, "x-positional": ordered, **_items(method, builder)}


def _items(method: MethodInfo, builder: SchemaBuilder) -> Schema:
    """Return what to say of a stream of items, which don't travel with the arguments."""
    return {} if method.takes is None else {"x-items": method.takes.schema(builder)}


def _parameter(item: Parameter, builder: SchemaBuilder) -> Schema:
    schema = builder.schema(item.annotation)
    if item.required or item.kind in ("rest", "keywords"):
        return schema
    return schema | default_of(item.default)


def parameter_schema(method: Mapping[str, Any], parameter: Mapping[str, Any]) -> Schema:
    """Return the schema of one parameter of a method of a document."""
    arguments: Schema = method["arguments"]
    rest: Schema = arguments["properties"].get("*", {})
    kind, name = parameter["kind"], parameter["name"]
    if kind == "keywords":
        found = arguments["additionalProperties"]
    elif kind == "rest":
        found = rest["items"]
    elif kind == "items":
        found = arguments["x-items"]
    elif kind == "positional_only":
        titled = (item for item in rest["prefixItems"] if item.get("title") == name)
        found = next(titled, {})
    else:
        found = arguments["properties"][name]
    return found if isinstance(found, dict) else {}


def method_schema(document: Mapping[str, Any], name: str, part: str) -> Schema:
    """Return the schema of one method, standing alone.

    Args:
        document: A contract.
        name: Full name of the method.
        part: "arguments" or "result".

    Raises:
        ConfigError: The document has no such method.
    """
    for service in document["services"]:
        for method in service["methods"]:
            if method["name"] == name:
                defs = document["$defs"]
                used = {key: defs[key] for key in reached([method[part]], defs)}
                found = {"$schema": document["$schema"], **method[part]}
                return found | ({"$defs": used} if used else {})
    raise ConfigError(f"the contract has no method {name!r}")


def only(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return *document* with only the service or method called *name*, and what it needs."""
    services = []
    for service in document["services"]:
        methods = [m for m in service["methods"] if name in ("", service["name"], m["name"])]
        if methods:
            services.append({**service, "methods": methods})
    roots = [m[part] for s in services for m in s["methods"] for part in ("arguments", "result")]
    defs = document["$defs"]
    used = set(reached(roots, defs))
    kept = {key: schema for key, schema in defs.items() if key in used}
    return {**document, "services": services, "$defs": kept}
