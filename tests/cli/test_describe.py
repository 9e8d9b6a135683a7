import io
import json

from rich.console import Console

import fastrpc
from fastrpc.call import describe_service
from fastrpc.cli.describe import show
from tests.cli.served import invoke
from tests.codec import samples


def test_the_tree(target: str) -> None:
    result = invoke("describe", target)
    assert result.exit_code == 0
    lines = [line.strip("│├└─ ") for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"{target}  fastrpc/")
    assert lines[1:3] == ["Arith", "Small sums."]
    add = lines.index("add(a: int, b: int = 2) -> int")
    assert lines[add + 1] == "Return a + b."
    assert "slow() -> int  thread  idempotent" in lines
    assert lines[-2:] == ["shout(text: str) -> str", "Return the text in capitals."]


def test_json(target: str) -> None:
    told = json.loads(invoke("describe", target, "--json").stdout)
    services = {service["name"]: service for service in told["services"]}
    assert {"Arith", "shout"} <= set(services)
    assert "add(a: int, b: int = 2) -> int" in [
        m["signature"] for m in services["Arith"]["methods"]
    ]


def test_one_method_or_service(target: str) -> None:
    told = json.loads(invoke("describe", target, "Arith.add", "--json").stdout)
    assert [m["name"] for s in told["services"] for m in s["methods"]] == ["Arith.add"]
    told = json.loads(invoke("describe", target, "Arith", "--json").stdout)
    assert len(told["services"][0]["methods"]) == 10


def test_a_method_that_is_not_there(target: str) -> None:
    result = invoke("describe", target, "Arith.sub")
    assert result.exit_code == 5
    assert "nothing there is called 'Arith.sub'" in result.stderr


def test_the_contract(target: str) -> None:
    text = invoke("describe", target, "--schema").stdout
    told = json.loads(text)
    assert set(told) == {"$schema", "fastrpc", "services", "$defs"}
    (add,) = (m for m in told["services"][0]["methods"] if m["name"] == "Arith.add")
    assert add["arguments"]["required"] == ["a"]
    assert add["result"] == {"type": "integer"}
    line = invoke("describe", target, "--schema", "--json").stdout
    assert line.count("\n") == 1
    assert json.loads(line) == told
    part = json.loads(invoke("describe", target, "shout", "--schema").stdout)
    assert [service["name"] for service in part["services"]] == ["shout"]
    assert invoke("describe", target, "Arith.sub", "--schema").exit_code == 5


def test_types_and_traits_are_shown() -> None:
    console = Console(width=200, file=io.StringIO(), highlight=False)
    described = describe_service(Shop).describe()
    show(console, "here", {"services": [described]})
    lines = [line.strip("│├└─ ") for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert "find(node: Node) -> Color  shielded  cost 3" in lines
    assert lines[-2:] == ["Node(v: int, next: Node | None = ...)", "Color: 'red' | 'blue'"]


class Shop:
    @fastrpc.rpc(cancel="shield", cost=3)
    async def find(self, node: samples.Node) -> samples.Color: ...
