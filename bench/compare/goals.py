"""Hold the speed goals that one run can check, each a ratio within that run.

Absolute rates depend on the machine; a ratio to something measured beside it
hardly does. All are taken with both ends on one core, where a second is a
second of processor time and no core has to be woken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.compare.results import Key, Results, Spread
from bench.values import BLOB

FAST: Final = Key("fastrpc", 256)
LONE: Final = Key("fastrpc", 1)
RAW: Final = Key("raw uvloop echo, no RPC", 1)
HAND: Final = Key("hand-written Protocol + msgpack", 256)
MIB: Final = len(BLOB)
IMPORT_MS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Goal:
    """The rate of *above* divided by that of *below* is to be at least, or at most, *bound*."""

    text: str
    above: Key
    below: Key
    bound: float
    at_least: bool = True


GOALS: Final = (
    Goal("unary, 256 in flight / grpc.aio", FAST, Key("grpc.aio", 256), 150),
    Goal(
        "unary, 256 in flight / thriftpy2, 16 connections",
        FAST,
        Key("thriftpy2 sync, 16 connections", 16),
        8,
    ),
    Goal("unary, 256 in flight / hand-written", FAST, HAND, 3),
    Goal("unary, 256 in flight / round trips of raw uvloop", FAST, RAW, 4.3),
    Goal("time of a call, one at a time / raw uvloop", RAW, LONE, 1.3, at_least=False),
    Goal(
        "time of a call, blocking client / raw uvloop",
        RAW,
        Key("fastrpc, blocking client", 1),
        1.25,
        at_least=False,
    ),
    Goal("async handler / sync handler", Key("fastrpc, async handler", 256), FAST, 0.8),
    Goal("deadline on each call / without", Key("fastrpc, deadline on each call", 256), FAST, 0.9),
    Goal("5 pairs of metadata / without", Key("fastrpc, 5 pairs of metadata", 256), FAST, 0.6),
    Goal(
        "1 MiB bytes, one at a time / raw uvloop BufferedProtocol",
        Key("fastrpc, bytes", 1, MIB),
        Key("raw uvloop BufferedProtocol", 1, MIB),
        0.9,
    ),
    Goal(
        "1 MiB bytes, 4 in flight / raw uvloop BufferedProtocol",
        Key("fastrpc, bytes", 4, MIB),
        Key("raw uvloop BufferedProtocol", 4, MIB),
        0.9,
    ),
    Goal("pure twin, 256 in flight / hand-written", Key("fastrpc, pure twin", 256), HAND, 0.8),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a goal stands: what was found, what was wanted, "ok", "SHORT" or "not measured"."""

    text: str
    wanted: str
    found: Spread | None
    unit: str
    word: str


def judge(results: Results) -> Iterator[Verdict]:
    """Yield the verdict on every goal."""
    for goal in GOALS:
        wanted = f"{'>=' if goal.at_least else '<='} {goal.bound:g}x"
        ratio = results.ratios(goal.above, goal.below)
        if ratio is None:
            yield Verdict(goal.text, wanted, None, "x", "not measured")
            continue
        met = ratio.middle >= goal.bound if goal.at_least else ratio.middle <= goal.bound
        yield Verdict(goal.text, wanted, ratio, "x", "ok" if met else "SHORT")
    wanted = f"<= {IMPORT_MS:g} ms"
    if not results.import_ms:
        yield Verdict("import fastrpc", wanted, None, " ms", "not measured")
        return
    took = Spread.of(results.import_ms)
    word = "ok" if took.middle <= IMPORT_MS else "SHORT"
    yield Verdict("import fastrpc", wanted, took, " ms", word)
