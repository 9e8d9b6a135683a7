import json

from tests.cli.served import invoke


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
    assert len(told["services"][0]["methods"]) == 9


def test_a_method_that_is_not_there(target: str) -> None:
    result = invoke("describe", target, "Arith.sub")
    assert result.exit_code == 5
    assert "nothing there is called 'Arith.sub'" in result.stderr
