import json
import re
import socket
from pathlib import Path

import pytest

from fastrpc.cli.asking import Health
from fastrpc.cli.ls import AT_ONCE, SILENT, in_order, show, to_dict
from fastrpc.cluster import Instance, Listing
from tests.cli.fleet import Fleet
from tests.cli.served import invoke
from tests.cli.shown import console, text_of


def test_the_services_of_a_registry(fleet: Fleet) -> None:
    result = invoke("ls", fleet.registry)
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows = [line.split() for line in result.stdout.splitlines()]
    assert head == ["SERVICE", "INSTANCES", "UP", "DOWN", "UNREADABLE"]
    assert rows == [["Arith", "2", "2"], ["Mixed", "1", "1", "1"]]
    told = json.loads(invoke("ls", fleet.registry, "--json").stdout)["services"]
    assert told[0]["states"] == {"up": 2, "draining": 0, "down": 0}
    assert [(each["name"], each["instances"], each["skipped"]) for each in told] == [
        ("Arith", 2, 0),
        ("Mixed", 1, 1),
    ]


def test_instances_say_how_they_are(fleet: Fleet) -> None:
    result = invoke("ls", fleet.service)
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows, last = result.stdout.splitlines()
    assert head.split()[:5] == ["INSTANCE", "ADDRESS", "ZONE", "LISTED", "SAYS"]
    for row, address, zone in zip(rows, fleet.addresses, ("eu-1", "eu-2"), strict=True):
        assert re.search(rf"{address}  {zone}  up      serving  0/4,096 ", row)
    assert last == "2 instances, 2 answered"


def test_json(fleet: Fleet) -> None:
    told = json.loads(invoke("ls", fleet.service, "--json").stdout)
    assert (told["target"], told["skipped"]) == (fleet.service, 0)
    assert [each["addresses"] for each in told["instances"]] == [[a] for a in fleet.addresses]
    for each in told["instances"]:
        assert (each["state"], each["weight"]) == ("up", 1.0)
        health = each["health"]
        assert (health["state"], health["running"], health["limit"]) == ("serving", 0, 4096)
        assert health["uptime"] >= 0


def test_who_does_not_answer_is_told_and_why(fleet: Fleet) -> None:
    result = invoke("ls", f"{fleet.registry}/Mixed")
    assert result.exit_code == 3  # nobody has answered
    assert re.search(rf"down +unix:///nowhere/x.sock +down +{SILENT}\n", result.stdout)
    assert "1 instance, 0 answered, 1 did not, 1 entry can't be read\n" in result.stdout
    assert "unix:///nowhere/x.sock" in result.stderr
    told = json.loads(invoke("ls", f"{fleet.registry}/Mixed", "--json").stdout)
    assert told["skipped"] == 1
    (one,) = told["instances"]
    assert one["health"] is None
    assert "nowhere" in one["problem"]


def test_one_that_is_silent_is_not_waited_for_longer(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        target = f"static:{fleet.addresses[0]},127.0.0.1:{deaf.getsockname()[1]}"
        result = invoke("ls", target, "--timeout", "0.1")
    assert result.exit_code == 0  # one has answered
    assert "2 instances, 1 answered, 1 did not" in result.stdout
    assert "0.1 s" in result.stderr


def test_nobody_is_asked_without_load(fleet: Fleet) -> None:
    result = invoke("ls", f"{fleet.registry}/Mixed", "--no-load")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "SAYS" not in result.stdout
    assert result.stdout.endswith("1 instance, 1 entry can't be read\n")


def test_one_server(target: str) -> None:
    result = invoke("ls", target)
    assert result.exit_code == 0
    head, row = result.stdout.splitlines()
    assert head.split()[:3] == ["ADDRESS", "SAYS", "RUNNING"]
    assert row.startswith(f"{target}  serving  ")
    (one,) = json.loads(invoke("ls", target, "--json").stdout)["instances"]
    assert one["health"]["state"] == "serving"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("unix:///nowhere/x.sock", 3),
        ("registry://127.0.0.1:1/Arith", 3),
        ("registry://127.0.0.1:1", 3),
        ("ftp://x", 2),
        ("registry://127.0.0.1:1/a b", 2),
    ],
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_errors_have_their_exit_codes(target: str, code: int, more: list[str]) -> None:
    result = invoke("ls", target, *more)
    assert result.exit_code == code
    assert ("error" in json.loads(result.stdout)) if more else ("error: " in result.stderr)


def test_a_service_without_instances(fleet: Fleet) -> None:
    result = invoke("ls", f"{fleet.registry}/Nobody")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"{fleet.registry}/Nobody: no instance is listed\n"
    assert json.loads(invoke("ls", f"{fleet.registry}/Nobody", "--json").stdout)["instances"] == []


def test_a_file_and_its_services(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"services": {"Arith": fleet.addresses}}), encoding="utf-8")
    assert invoke("ls", f"file://{path}").stdout.split()[-3:] == ["Arith", "2", "2"]
    assert invoke("ls", f"file://{path}#Arith").stdout.endswith("2 instances, 2 answered\n")


def many(count: int) -> Listing:
    """Return so many instances, the last ones first."""
    return Listing(
        tuple(
            Instance(
                id=f"shop-{number:04}-0123456789abcdef",
                addresses=(f"tcp://10.0.{number // 250}.{number % 250}:7000",),
                zone="eu-1",
                version="2",
                weight=2.0,
                tags=(("rack", "7"),),
            )
            for number in reversed(range(count))
        )
    )


def test_a_thousand_instances_on_any_terminal_and_in_a_pipe() -> None:
    listing = in_order(many(1000))
    assert listing is not None
    assert listing.instances[0].id.startswith("shop-0000")
    health = Health(state="serving", running=3, limit=4096, lag=0.0003, uptime=90_000.0)
    answers: dict[str, Health | str] = {each.id: health for each in listing.instances}
    answers[listing.instances[7].id] = "no answer within 1 s"
    for width in (40, 80, 200):
        screen = console(width)
        show(screen, "registry://h/Shop", listing, answers)
        lines = text_of(screen).splitlines()
        assert len(lines) == 1002
        assert max(map(len, lines)) <= max(width, 79)  # below it even what matters is too much
        assert "10.0.0.0:7000" in lines[1]
        assert SILENT in lines[8]
    screen = console(None)
    show(screen, "registry://h/Shop", listing, answers)
    whole = text_of(screen).splitlines()[1].split()
    assert whole[0] == listing.instances[0].id
    assert "rack=7" in whole


def test_an_overloaded_server_says_so() -> None:
    listing = many(1)
    id = listing.instances[0].id
    health = Health(state="serving", running=4000, limit=4096, lag=0.7, overloaded=True)
    screen = console(200)
    show(screen, "registry://h/Shop", listing, {id: health})
    assert "overloaded  4,000/4,096  700 ms" in text_of(screen)
    told = to_dict("x", listing, {id: health})
    assert '"overloaded": true' in json.dumps(told)


def test_texts_of_others_can_not_reach_the_terminal() -> None:
    one = Instance(id="a", addresses=("tcp://h:1",), tags=(("x", "\x1b[2J"),))
    screen = console(None)
    show(screen, "registry://h/Shop", Listing((one,)), {})
    assert "\x1b" not in text_of(screen)
    assert "x=\\x1b[2J" in text_of(screen)


def test_many_are_asked_at_the_same_time_and_not_all() -> None:
    assert 10 <= AT_ONCE <= 200  # descriptors are usually 1,024
