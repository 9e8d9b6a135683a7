import json

import pytest
from rich.cells import cell_len

from fastrpc.cli.asking import Health
from fastrpc.cli.rates import Figures, InstanceRow, View
from fastrpc.cli.topview import Frame, draw, rate, sparkline, to_dict
from fastrpc.cluster import Instance, InstanceState

CLUSTER = "registry://127.0.0.1:7070/Shop"


def view(methods: int = 3, instances: int = 3, *, silent: int = 0, more: int = 0) -> View:
    """Return a view in which much goes on."""
    figures = Figures(1234.5, 0.0, 3, {0.0372: 50.0, 0.24: 1.0})
    rows = []
    for number in range(instances):
        instance = Instance(
            id=f"10.0.0.{number}-7000-0123456789ab",
            addresses=(f"tcp://10.0.{number // 250}.{number % 250}:7000",),
            zone="eu-1",
        )
        health = Health(state="serving", running=3, limit=4096, lag=0.0003)
        known = number >= silent
        rows.append(
            InstanceRow(
                instance,
                health if known else None,
                "" if known else "no answer within 3 s",
                figures if known else None,
            )
        )
    return View(0.0, {f"Shop.method{n}": figures for n in range(methods)}, rows, more)


def plain(shown: View, frame: Frame) -> list[str]:
    return [line.plain for line in draw(shown, frame)]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("height", [12, 24])
@pytest.mark.parametrize(("methods", "instances"), [(0, 0), (3, 3), (100, 2), (2, 200), (99, 200)])
def test_it_fills_the_screen_and_no_more(
    width: int, height: int, methods: int, instances: int
) -> None:
    frame = Frame(CLUSTER, "calls", width, height, has_keys=True, past=(1.0, 2.0) * 30)
    lines = plain(view(methods, instances, silent=1, more=7), frame)
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith(CLUSTER)
    assert lines[-1].startswith("q quit   sort by   c calls")
    text = "\n".join(lines)
    shown = text.count("Shop.method")
    hidden = [int(line.split()[1]) for line in lines if line.startswith("…")]
    rows = text.count("tcp://10.")
    assert shown + rows + sum(hidden) == methods + instances + 7
    assert shown or not methods
    assert rows or not instances


def test_without_a_size_all_of_it_is_there() -> None:
    lines = plain(view(99, 200), Frame(CLUSTER, "calls"))
    assert len(lines) == 2 + 1 + 1 + 99 + 1 + 1 + 200
    assert lines[0] == f"{CLUSTER}   200 instances"
    assert not any("…" in line for line in lines)


def test_what_stands_above() -> None:
    shown = view(1, 3, silent=2, more=5)
    head, second, *_ = plain(shown, Frame(CLUSTER, "calls", 120, 24, interval=5.0))
    assert head.startswith(f"{CLUSTER}   8 instances, 2 do not answer, 3 of them followed")
    assert head.endswith(", every 5 s")
    assert second.startswith("1,234 calls/s   0 errors/s   3 in flight   p50 37.2 ms   p99 240 ms")


def test_a_long_target_leaves_room_for_the_rest() -> None:
    target = "static:" + ",".join(f"tcp://10.0.0.{number}:7000" for number in range(99))
    head, *_ = plain(view(1, 2), Frame(target, "calls", 80, 24))
    assert head.startswith("static:tcp://10.0.0")
    assert "…" in head
    assert "   2 instances" in head


def test_the_registry_is_away() -> None:
    lost = View(0.0, {}, [], 0, "connection refused\x1b[2J")
    third = plain(lost, Frame(CLUSTER, "calls"))[2]
    assert "the registry can't be asked, what is known stays: connection refused\\x1b" in third


def test_a_single_server_has_no_made_up_name() -> None:
    text = "\n".join(plain(view(1, 1), Frame("127.0.0.1:7000", "calls")))
    assert "INSTANCE" not in text
    assert "ADDRESS" in text
    assert "   1 instance\n" in text


def test_who_is_late_or_leaves_is_told() -> None:
    instance = Instance(id="a", addresses=("tcp://h:1",), state=InstanceState.DRAINING)
    late = InstanceRow(instance, Health(state="serving"), "no answer for 1.2 s", None)
    fresh = InstanceRow(Instance(id="b", addresses=("tcp://h:2",)), None, "", None)
    *_, first, second = plain(View(0.0, {}, [late, fresh]), Frame(CLUSTER, "name"))
    assert "draining  no answer for 1.2 s" in first
    assert second.split() == ["b", "tcp://h:2", "…"]


def test_rates() -> None:
    texts = [rate(each) for each in (0.0, 0.03, 0.2, 9.96, 12.4, 1234.6)]
    assert texts == ["0", "0.03", "0.2", "10.0", "12", "1,235"]


def test_graphs() -> None:
    assert sparkline([0.0, 1.0, 4.0, 8.0]) == " ▁▄█"
    assert sparkline([0.0]) == sparkline([]) == ""


def test_json() -> None:
    told = json.loads(json.dumps(to_dict(CLUSTER, view(1, 2, silent=1, more=3))))
    assert told["calls_per_second"] == 1234.5
    assert (told["p50"], told["p99"], told["not_followed"]) == (0.0372, 0.24, 3)
    (method,) = told["methods"]
    assert method["name"] == "Shop.method0"
    silent, well = told["instances"]
    assert (silent["state"], silent["problem"]) == (None, "no answer within 3 s")
    assert "calls_per_second" not in silent
    assert (well["state"], well["limit"], well["calls_per_second"]) == ("serving", 4096, 1234.5)
