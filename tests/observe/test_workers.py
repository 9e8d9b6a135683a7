"""What several workers say is added up as it should be."""

from typing import Any

from fastrpc.observe.facts import CallFacts, ConnectionFacts, Facts, MethodFacts, ServerFacts
from fastrpc.observe.lag import LagFacts
from fastrpc.observe.workers import count, merged
from fastrpc.server.workers.ledger import add_up


def method(name: str, *buckets: tuple[float, float, int], **changes: Any) -> MethodFacts:
    timed = sum(n for _, _, n in buckets)
    told = {
        "calls": timed, "failures": {}, "running": 0, "is_sampled": False, "timed": timed,
        "total": 1.0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0,
    }  # fmt: skip
    return MethodFacts(name=name, buckets=buckets, **(told | changes))


def facts(*methods: MethodFacts, worst: tuple[float, ...] = (), **changes: Any) -> Facts:
    server: dict[str, Any] = {
        "state": "serving", "agent": "a", "pid": 1, "uptime": 1.0, "python": "p", "loop": "l",
        "is_compiled": True, "places": {}, "calls": 10, "running": 1, "refused": 2,
        "connections": 1, "accepted": 4, "turned_away": 5, "bytes_in": 6, "bytes_out": 7,
        "unsent": 8,
    }  # fmt: skip
    connection = ConnectionFacts(
        number=1, peer="p", door="d", agent="a", state="open", age=1.0, codecs=(), bytes_in=1,
        bytes_out=1, unsent=0, calls=1, running=1, tls="", identity="",
    )  # fmt: skip
    call = CallFacts(
        connection=1, number=1, id="i", method="m", peer="p", age=changes.pop("age", 1.0),
        left=None, state="runs", stack=(),
    )  # fmt: skip
    return Facts(
        server=ServerFacts(**(server | changes)),
        methods=methods,
        connections=(connection,),
        calls=(call,),
        lag=LagFacts(worst=worst, last_tick=0.1, worst_tick=0.2, late_ticks=3),
        limits={"a": 1},
        cut={"methods": 0, "connections": 1, "calls": 2},
        doors={"fastrpc": 1},
    )


def together(*told: Facts, gone: Any = None, parts: int = 0) -> Facts:
    total: dict[str, Any] = {}
    for each in told:
        add_up(total, count(each))
    add_up(total, gone or {})
    return merged(list(enumerate(told)), total, parts=parts)


def test_what_is_counted_and_what_is_there_is_added_up() -> None:
    one = together(facts(worst=(0.5, 0.1)), facts(worst=(0.3,), age=2.0))
    server = one.server
    assert (server.calls, server.refused, server.accepted, server.turned_away) == (20, 4, 8, 10)
    assert (server.bytes_in, server.bytes_out, server.unsent, server.running) == (12, 14, 16, 2)
    assert [each.worker for each in one.connections] == [0, 1]
    assert [(each.worker, each.age) for each in one.calls] == [(1, 2.0), (0, 1.0)]  # oldest first
    assert one.lag == LagFacts(worst=(0.5, 0.3), last_tick=0.1, worst_tick=0.2, late_ticks=6)
    assert one.cut == {"methods": 0, "connections": 2, "calls": 4}
    assert one.doors == {"fastrpc": 2}


def test_histograms_are_added_up_bucket_by_bucket() -> None:
    one = together(
        facts(method("a", (1.0, 2.0, 98), max=1.9, failures={"internal": 1}), method("b")),
        facts(method("a", (1.0, 2.0, 1), (4.0, 8.0, 1), max=7.5, failures={"internal": 2})),
    )
    a, b = one.methods
    assert a.buckets == ((1.0, 2.0, 99), (4.0, 8.0, 1))
    assert (a.calls, a.timed, a.total, a.failures) == (100, 100, 2.0, {"internal": 3})
    assert (a.p50, a.p99, a.max) == (1.5, 1.5, 7.5)
    assert (b.name, b.calls) == ("b", 0)


def test_those_that_are_gone_count_too() -> None:
    gone = count(facts(method("a", (16.0, 32.0, 5), max=20.0), method("old", (1.0, 2.0, 1))))
    one = together(facts(method("a", (1.0, 2.0, 1), max=1.5)), gone=gone)
    a, old = one.methods
    assert (one.server.calls, one.server.running) == (20, 1)
    assert (a.calls, a.max, old.calls) == (6, 32.0, 1)  # only the bucket of the longest is known


def test_a_picture_needs_fewer_buckets() -> None:
    told = facts(method("a", (1.0, 1.0625, 1), (1.0625, 1.125, 2)))
    assert together(told, parts=4).methods[0].buckets == ((1.0, 1.25, 3),)
