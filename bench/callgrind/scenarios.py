"""Hold what is counted, and be the program that valgrind runs.

    python -m bench.callgrind.scenarios TWIN SCENARIO REPEATS

Each scenario repeats one piece of work. Nothing in it depends on time, on other
processes, or on the order of a set.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

from bench.pair import Chain, Flow, Pair
from bench.twins import open_twin
from bench.values import SMALL, Small
from fastrpc.call.metadata import encode_metadata
from fastrpc.codec import default_codecs
from fastrpc.wire import Kind, Serializer

BATCH: Final = 64  # calls, items or frames in one repetition; the counts are for one of them

METADATA: Final = encode_metadata({f"key-{n}": f"value number {n}" for n in range(5)})

Work = Callable[[], object]
Scenario = Callable[[SimpleNamespace], Work]


def unary(twin: SimpleNamespace) -> Work:
    """A plain call, 64 in flight, a dict there and back."""
    pair = Pair(twin)
    call = pair.caller().call
    return lambda: pair.calls(lambda: call("Echo.echo", SMALL), BATCH)


def alone(twin: SimpleNamespace) -> Work:
    """The same, one at a time: each call is flushed and read by itself."""
    pair = Pair(twin)
    call = pair.caller().call

    def work() -> None:
        for _ in range(BATCH):
            pair.calls(lambda: call("Echo.echo", SMALL), 1)

    return work


def coroutine(twin: SimpleNamespace) -> Work:
    """A plain call whose handler is a coroutine without an await."""
    pair = Pair(twin)
    call = pair.caller().call
    return lambda: pair.calls(lambda: call("Echo.later", SMALL), BATCH)


def deadline(twin: SimpleNamespace) -> Work:
    """A plain call with a deadline."""
    pair = Pair(twin)
    call = pair.caller(timeout=30.0).call
    return lambda: pair.calls(lambda: call("Echo.echo", SMALL), BATCH)


def typed(twin: SimpleNamespace) -> Work:
    """A call through a stub, a dataclass there and back."""
    pair = Pair(twin)
    call, small = pair.typed(pair.caller()), Small(**SMALL)
    return lambda: pair.calls(lambda: call(small), BATCH)


def metadata(twin: SimpleNamespace) -> Work:
    """A plain call with five pairs of metadata, checked and answered in the lane."""
    pair = Pair(twin)
    call = pair.caller(metadata=METADATA).call
    return lambda: pair.calls(lambda: call("Echo.echo", SMALL), BATCH)


def chain(twin: SimpleNamespace) -> Work:
    """A call awaited through an interceptor on both sides that does nothing."""
    calls = Chain(Pair(twin), twin)
    return lambda: calls.calls(SMALL, BATCH)


def picked(twin: SimpleNamespace) -> Work:
    """A plain call through a cluster's pick, of two members with one lane."""
    pair = Pair(twin)
    call = pair.picking().call
    return lambda: pair.calls(lambda: call("Echo.echo", SMALL), BATCH)


def int_items(twin: SimpleNamespace) -> Work:
    """An item of a stream, an int: out of a generator, through pump, lanes and reader."""
    flow = Flow(Pair(twin), twin)
    return lambda: flow.items(7, BATCH)


def small_items(twin: SimpleNamespace) -> Work:
    """The same with a dict for an item."""
    flow = Flow(Pair(twin), twin)
    return lambda: flow.items(SMALL, BATCH)


def decode_frames(twin: SimpleNamespace) -> Work:
    """A frame taken out of a chunk of 64."""
    payload = default_codecs().get("msgpack").encode((SMALL,))
    chunk = b"".join(
        twin.encode_frame(Kind.CALL, id, serializer=Serializer.MSGPACK, arg=1, payload=payload)
        for id in range(1, BATCH + 1)
    )
    decoder = twin.FrameDecoder()
    return lambda: decoder.feed(chunk)


def encode_frames(twin: SimpleNamespace) -> Work:
    """A frame put together."""
    payload = default_codecs().get("msgpack").encode((SMALL,))
    encode, kind, serializer = twin.encode_frame, int(Kind.CALL), int(Serializer.MSGPACK)

    def work() -> None:
        for id in range(1, BATCH + 1):
            encode(kind, id, serializer=serializer, arg=1, payload=payload)

    return work


SCENARIOS: Final[dict[str, Scenario]] = {
    "unary": unary,
    "alone": alone,
    "coroutine": coroutine,
    "deadline": deadline,
    "typed": typed,
    "metadata": metadata,
    "chain": chain,
    "picked": picked,
    "int items": int_items,
    "small items": small_items,
    "decode frames": decode_frames,
    "encode frames": encode_frames,
}


async def run(twin: str, scenario: str, repeats: int) -> None:
    """Do the work of one scenario *repeats* times."""
    work = SCENARIOS[scenario](open_twin(twin))
    for _ in range(repeats):
        work()


if __name__ == "__main__":
    gc.disable()  # its turns depend on what was allocated before
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
