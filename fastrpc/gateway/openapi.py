"""Describe what can be called over HTTP: a short list, and an OpenAPI document.

The document is made of what the server tells of itself (`Server.describe`), schemas and all,
so it says of types what the contract says. Its form is OpenAPI 3.1, whose schemas are those of
JSON Schema 2020-12, as ours are.

Rules of the room:
  * worked out once for each server and set of methods, whoever asks how often.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from fastrpc.call import method_key
from fastrpc.gateway.convert import json_of
from fastrpc.gateway.events import EVENTS, LINES
from fastrpc.gateway.problems import JSON
from fastrpc.version import __version__

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall

_OPENAPI: Final = "3.1.0"
_LOCAL: Final = "#/$defs/"
_SHARED: Final = "#/components/schemas/"
_UNUSABLE: Final = re.compile(r"[^a-zA-Z0-9._-]")
_ERROR: Final = "fastrpc.Error"

_ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What went wrong, in one form for all errors.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["status", "name", "message", "type", "ran"],
            "properties": {
                "status": {"type": "integer", "description": "Status of fastrpc's."},
                "name": {"type": "string", "description": "The same as a word."},
                "message": {"type": "string"},
                "type": {"type": "string", "description": "Class of the exception."},
                "ran": {
                    "enum": ["no", "maybe", "yes"],
                    "description": "Whether the handler was started; after no it may be sent"
                    " again.",
                },
                "code": {"type": "integer", "description": "Of the application."},
                "data": {"description": "Of the application."},
                "retry_ms": {"type": "integer", "description": "Come back no sooner."},
            },
        }
    },
}
_ERRORS: Final = {
    "400": "An argument is wrong; the message names it.",
    "404": "There is no such method.",
    "default": "It failed; the body says how.",
}
_HEADERS: Final = [
    {
        "name": "fastrpc-timeout",
        "in": "header",
        "description": "Seconds that the call may take.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
]

#: By server, and by where it is mounted: the description they were made from, the list and the
#: document.
_made: WeakKeyDictionary[Any, dict[str, tuple[Any, bytes, bytes]]] = WeakKeyDictionary()


def listing(hall: "Hall", at: str = "") -> bytes:
    """Return the list of the methods of a server that is mounted *at* a path."""
    return _of(hall, at)[1]


def document(hall: "Hall", at: str = "") -> bytes:
    """Return the OpenAPI document of a server that is mounted *at* a path."""
    return _of(hall, at)[2]


def _of(hall: "Hall", at: str) -> tuple[Any, bytes, bytes]:
    told = hall.server.describe(schema=True)
    places = _made.setdefault(hall, {})
    found = places.get(at)
    if found is None or found[0] is not told["services"]:  # the same until one is registered
        made = json_of(write_openapi(told, hall.options.http.title, at))
        found = places[at] = told["services"], json_of(write_listing(told, at)), made
    return found


def write_listing(told: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Return the list of methods that a description tells of, of a server *at* a path."""
    return {
        "methods": [
            {
                "name": name,
                "signature": method["signature"],
                "doc": method["doc"].partition("\n")[0],
                "path": f"{at}/rpc/{name}",
                "methods": ["GET", "POST"] if _may_get(method) else ["POST"],
            }
            for name, _, method in _methods(told)
        ],
        "openapi": f"{at}/rpc/openapi.json",
    }


def write_openapi(told: dict[str, Any], title: str, at: str = "") -> dict[str, Any]:
    """Return the OpenAPI document for what a server tells of itself.

    Args:
        told: Its description, with schemas.
        title: What the document is called.
        at: The path that it is mounted at, if it is.
    """
    names = _usable(told["$defs"])
    schemas = {names[key]: _moved(schema, names) for key, schema in told["$defs"].items()}
    schemas[_ERROR] = _ERROR_SCHEMA
    paths: dict[str, Any] = {}
    for name, service, method in _methods(told):
        path = {"post": _operation(name, service, method, names, "post")}
        if _may_get(method):
            path["get"] = _operation(name, service, method, names, "get")
        paths[f"/rpc/{name}"] = path
    return {
        "openapi": _OPENAPI,
        "info": {"title": title, "version": __version__},
        "jsonSchemaDialect": told["$schema"],
        "servers": [{"url": at or "/"}],
        "tags": [_tag(service) for service in told["services"]],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _tag(service: dict[str, Any]) -> dict[str, Any]:
    doc = service.get("doc", "")
    return {"name": service["name"] or "functions"} | ({"description": doc} if doc else {})


def _methods(told: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Go through all methods, each with the name it is called by, and its service."""
    for service in told["services"]:
        for method in service["methods"]:
            version = "" if service["default"] else service["version"]
            group = "" if service["default"] else service["group"]
            yield method_key(method["name"], version, group), service, method


def _operation(
    name: str,
    service: dict[str, Any],
    method: dict[str, Any],
    names: dict[str, str],
    verb: str,
) -> dict[str, Any]:
    doc: str = method["doc"]
    head, _, rest = doc.partition("\n")
    said: dict[str, Any] = {
        "operationId": name if verb == "post" else f"{name}.get",
        "tags": [service["name"] or "functions"],
        "summary": head or method["signature"],
    }
    if rest.strip():
        said["description"] = rest.strip()
    arguments = _moved(method["arguments"], names)
    items = arguments.pop("x-items", None)
    if _takes_and_gives(method):
        said["description"] = "Takes and gives items at once: not over HTTP, but over WebSocket."
    said["parameters"] = [*_HEADERS]
    if verb == "get" or items is not None:
        said["parameters"] += _query(arguments)
    if items is not None:
        each = items.get("items", {})
        said["requestBody"] = {"content": {LINES: {"schema": each}}, "required": True}
    elif verb == "post":
        said["requestBody"] = {
            "content": {JSON: {"schema": _body(arguments)}},
            "required": bool(arguments.get("required")),
        }
    said["responses"] = {"200": _success(method, names)} | {
        status: {"description": text, "content": {JSON: {"schema": {"$ref": _SHARED + _ERROR}}}}
        for status, text in _ERRORS.items()
    }
    said["x-idempotent"] = method["idempotent"]
    return said


def _query(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    required = arguments.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in arguments["properties"].items()
        if name != "*"
    ]


def _body(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body: arguments by name, or an array of them by position."""
    ordered = arguments.get("x-positional", [])
    properties, rest = arguments["properties"], arguments["properties"].get("*", {})
    first = [*rest.get("prefixItems", [])]
    titled = {schema.get("title") for schema in first}
    first += [properties[name] for name in ordered if name in properties and name not in titled]
    required = arguments.get("required", [])
    array: dict[str, Any] = {"type": "array"}
    if first:
        array["prefixItems"] = first
    least = rest.get("minItems", 0) + sum(
        name in required for name in ordered if name in properties
    )
    if least:
        array["minItems"] = least
    if "items" in rest:
        array["items"] = rest["items"]
    else:
        array["maxItems"] = len(first)
    return {"anyOf": [arguments, array]}


def _success(method: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    result = _moved(method["result"], names)
    if "x-stream" not in result:
        return {"description": "The result.", "content": {JSON: {"schema": result}}}
    item = result.get("items", {})
    return {
        "description": "Items: a line of JSON each, and a last line that says how it ended;"
        " or server-sent events.",
        "content": {LINES: {"schema": item}, EVENTS: {"schema": item}},
    }


def _may_get(method: dict[str, Any]) -> Any:
    return method["idempotent"] and "x-items" not in method["arguments"]


def _takes_and_gives(method: dict[str, Any]) -> bool:
    return "x-items" in method["arguments"] and "x-stream" in method["result"]


def _usable(defs: dict[str, Any]) -> dict[str, str]:
    """Return a name for each definition that a component may have."""
    found: dict[str, str] = {}
    for key in defs:
        name = _UNUSABLE.sub("_", key)
        while name in found.values():
            name += "_"
        found[key] = name
    return found


def _moved(schema: Any, names: dict[str, str]) -> Any:
    """Return a schema whose references lead to the document's components."""
    if isinstance(schema, list):
        return [_moved(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, names) for key, value in schema.items()}
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith(_LOCAL):
        moved["$ref"] = _SHARED + names[ref.removeprefix(_LOCAL)]
    return moved
