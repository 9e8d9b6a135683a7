import pytest

from fastrpc.cli.asking import Health, Method
from fastrpc.cli.rates import (
    WINDOW,
    Figures,
    History,
    InstanceRow,
    View,
    added,
    sorted_instances,
    sorted_methods,
)
from fastrpc.cluster import Instance


def health(uptime: float, calls: int, times: int = 0, **more: int) -> Health:
    method = Method(
        calls=calls,
        failures={name: count for name, count in more.items() if name != "running"},
        running=more.get("running", 0),
        times=[(0.001, times)] if times else [],
    )
    return Health(state="serving", uptime=uptime, methods={"A.b": method})


def test_rates_are_by_the_servers_clock() -> None:
    history = History(50)
    history.add(health(10.0, 100, application=1), 1, now=0.0)
    assert history.methods() is None
    history.add(health(12.0, 300, application=5, cancelled=9, running=3), 1, now=99.0)
    found = history.methods()
    assert found == {"A.b": Figures(calls=100.0, errors=2.0, running=3)}


def test_a_server_that_does_not_tell_its_time_is_measured_here() -> None:
    history = History(50)
    history.add(health(0.0, 100), 1, now=50.0)
    history.add(health(0.0, 130), 1, now=51.0)
    assert history.methods() == {"A.b": Figures(calls=30.0)}


@pytest.mark.parametrize(("uptime", "connection"), [(5.0, 1), (11.0, 2)])
def test_who_has_started_anew_is_begun_with_anew(uptime: float, connection: int) -> None:
    history = History(50)
    history.add(health(10.0, 1000), 1, 0.0)
    history.add(health(uptime, 3), connection, 0.0)
    assert history.methods() is None
    history.add(health(uptime + 1, 4), connection, 0.0)
    assert history.methods() == {"A.b": Figures(calls=1.0)}
    history.clear()
    assert history.methods() is None


def test_the_same_answer_again_says_nothing_new() -> None:
    history = History(50)
    for uptime, calls in ((1.0, 0), (2.0, 10), (2.0, 10)):
        history.add(health(uptime, calls), 1, 0.0)
    assert history.methods() == {"A.b": Figures(calls=10.0)}


def test_percentiles_are_of_the_last_answers_and_no_more() -> None:
    history = History(50)
    slow = [(1.0, 100)]
    for number in range(WINDOW + 3):
        times = [*slow, (0.001, 10 * number)] if number else slow
        method = Method(calls=100 + 10 * number, times=times)
        history.add(Health(state="serving", uptime=1.0 + number, methods={"A.b": method}), 1, 0.0)
    found = history.methods()
    assert found is not None
    assert found["A.b"].times == {0.001: 10 * WINDOW}
    assert found["A.b"].percentile(99) == 0.001


def test_a_sample_stands_for_those_that_are_not_timed() -> None:
    history = History(50)
    history.add(health(1.0, 0), 1, 0.0)
    history.add(health(2.0, 160, times=10), 1, 0.0)
    found = history.methods()
    assert found is not None
    assert found["A.b"].times == {0.001: 160.0}


def test_a_method_that_there_was_no_room_for_has_no_rates_yet() -> None:
    history = History(asked=1)
    other = {"C.d": Method(calls=5)}
    history.add(Health(state="serving", uptime=1.0, methods=other), 1, 0.0)
    history.add(health(2.0, 1_000_000, running=2), 1, 0.0)
    assert history.methods() == {"A.b": Figures(running=2)}
    roomy = History(asked=2)
    roomy.add(Health(state="serving", uptime=1.0, methods=other), 1, 0.0)
    roomy.add(health(2.0, 7), 1, 0.0)
    assert roomy.methods() == {"A.b": Figures(calls=7.0)}  # its first calls


def test_percentiles() -> None:
    figures = Figures(times={0.001: 98, 1.0: 1, 2.0: 1})
    assert [figures.percentile(each) for each in (50, 98, 99, 100)] == [0.001, 0.001, 1.0, 2.0]
    assert Figures().percentile(50) is None


def test_sums() -> None:
    one = Figures(1.0, 0.5, 2, {0.1: 1})
    assert added([one, one]) == Figures(2.0, 1.0, 4, {0.1: 2})
    assert added([], 7) == Figures(running=7)


def view() -> View:
    def row(id: str, zone: str, figures: Figures | None) -> InstanceRow:
        instance = Instance(id=id, addresses=(f"tcp://{id}:1",), zone=zone)
        known = Health(state="serving", running=2) if figures else None
        return InstanceRow(instance, known, "" if figures else "away", figures)

    busy, slow = Figures(100.0, 0.0, 1, {0.001: 1}), Figures(10.0, 5.0, 9, {1.0: 1})
    return View(
        0.0,
        {"A.busy": busy, "A.slow": slow, "A.idle": Figures()},
        [row("c", "1", busy), row("b", "2", slow), row("a", "2", None)],
    )


@pytest.mark.parametrize(
    ("by", "methods", "instances"),
    [
        ("calls", ["busy", "slow", "idle"], "cba"),
        ("errors", ["slow", "busy", "idle"], "bca"),
        ("p99", ["slow", "busy", "idle"], "bca"),
        ("running", ["slow", "busy", "idle"], "bca"),
        ("name", ["busy", "idle", "slow"], "cab"),
    ],
)
def test_sorting(by: str, methods: list[str], instances: str) -> None:
    assert [name for name, _ in sorted_methods(view(), by)] == [f"A.{each}" for each in methods]
    assert "".join(row.instance.id for row in sorted_instances(view(), by)) == instances


def test_all_of_it() -> None:
    assert (view().total.calls, view().total.running, view().answered) == (110.0, 4, 2)
