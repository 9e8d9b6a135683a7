"""What can be called over HTTP, as a list and as an OpenAPI document."""

import dataclasses
import enum
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import fastrpc
from fastrpc.gateway.openapi import write_listing, write_openapi
from fastrpc.server.http import HttpOptions
from tests.gateway.asking import Arith, asked, get

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Node:
    """A node of a tree."""

    name: str
    colour: Colour = Colour.RED
    children: "list[Node]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(Generic[T]):
    what: T


class Trees:
    """Trees, and what can be done to them.

    They are green.
    """

    def grow(self, tree: Node, /, by: int = 1, *names: str, deep: bool = False) -> Node:
        """Let a tree grow.

        It takes its time.
        """
        return tree

    @fastrpc.rpc(idempotent=True)
    def find(self, name: str, colour: Colour | None = None) -> "Box[Node] | None":
        return None

    def any(self, **more: Any) -> dict[str, Box[int]]:
        return {}

    async def leaves(self, tree: Node) -> AsyncIterator[Node]:
        """Give the leaves."""
        yield tree

    async def plant(self, trees: AsyncIterator[Node], where: str = "here") -> int:
        return 0

    async def swap(self, trees: AsyncIterator[Node]) -> AsyncIterator[Node]:
        async for tree in trees:
            yield tree


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    server = fastrpc.Server()
    server.register(Trees())
    server.register(Arith(), version="2", group="eu")
    return write_openapi(server.describe(schema=True), "Trees")


@pytest.mark.slow
def test_it_is_valid_openapi(made: dict[str, Any]) -> None:
    assert made["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(made).validate()
    broken = {**made, "paths": {"/x": {"post": {"responses": []}}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()), "the check can fail"


def test_every_method_has_its_path(made: dict[str, Any]) -> None:
    paths = made["paths"]
    assert set(paths["/rpc/Trees.find"]) == {"get", "post"}
    assert set(paths["/rpc/Trees.grow"]) == {"post"}
    assert "/rpc/Arith.add@2/eu" in paths
    grow = paths["/rpc/Trees.grow"]["post"]
    assert (grow["summary"], grow["description"]) == ("Let a tree grow.", "It takes its time.")
    assert grow["tags"] == ["Trees"]
    assert made["tags"][0]["description"].startswith("Trees, and")
    assert {"200", "400", "404", "default"} <= set(grow["responses"])


def body_of(made: dict[str, Any], name: str) -> jsonschema.protocols.Validator:
    content = made["paths"][f"/rpc/{name}"]["post"]["requestBody"]["content"]
    (media,) = content.values()
    schema = {**media["schema"], "components": made["components"]}
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    ("name", "body", "fits"),
    [
        ("Trees.grow", [{"name": "a"}], True),
        (
            "Trees.grow",
            [{"name": "a", "colour": "blue", "children": [{"name": "b"}]}, 2, "x"],
            True,
        ),
        ("Trees.grow", {"*": [{"name": "a"}], "deep": True}, True),
        ("Trees.grow", [], False),
        ("Trees.grow", [{"name": "a", "colour": "green"}], False),
        ("Trees.grow", [{"name": "a"}, 2, 3], False),
        ("Trees.grow", {"deep": True}, False),
        ("Trees.find", {"name": "x", "colour": None}, True),
        ("Trees.find", ["x", "red"], True),
        ("Trees.find", ["x", "red", 1], False),
        ("Trees.find", {"nome": "x"}, False),
        ("Trees.any", {"a": 1, "b": []}, True),
        ("Trees.plant", {"name": "a"}, True),
        ("Trees.plant", {"nome": "a"}, False),
    ],
)
def test_a_schema_says_what_a_body_may_be(
    made: dict[str, Any], name: str, body: Any, fits: bool
) -> None:
    assert body_of(made, name).is_valid(body) == fits


def test_queries_and_streams(made: dict[str, Any]) -> None:
    find = made["paths"]["/rpc/Trees.find"]["get"]
    query = {each["name"]: each for each in find["parameters"] if each["in"] == "query"}
    assert (query["name"]["required"], query["colour"]["required"]) == (True, False)
    assert "requestBody" not in find
    plant = made["paths"]["/rpc/Trees.plant"]["post"]
    assert [e["name"] for e in plant["parameters"] if e["in"] == "query"] == ["where"]
    assert list(plant["requestBody"]["content"]) == ["application/x-ndjson"]
    leaves = made["paths"]["/rpc/Trees.leaves"]["post"]["responses"]["200"]["content"]
    assert set(leaves) == {"application/x-ndjson", "text/event-stream"}
    assert "WebSocket" in made["paths"]["/rpc/Trees.swap"]["post"]["description"]
    assert find["x-idempotent"] is True


def test_no_reference_leads_nowhere(made: dict[str, Any]) -> None:
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(made)
    assert found
    schemas = made["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= set(schemas)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_server_gives_both_and_what_is_registered_later_too() -> None:
    async with asked(http=HttpOptions(title="Sums")) as (server, _, asker):
        document = (await asker.ask(get("/rpc/openapi.json"))).json
        OpenAPIV31SpecValidator(document).validate()
        assert document["info"] == {"title": "Sums", "version": fastrpc.__version__}
        listed = (await asker.ask(get("/rpc"))).json
        assert listed == write_listing(server.describe(schema=True))
        first = listed["methods"][0]
        assert (first["name"], first["methods"]) == ("Arith.add", ["POST"])
        server.register(Trees())
        names = [each["name"] for each in (await asker.ask(get("/rpc/"))).json["methods"]]
        assert "Trees.grow" in names
