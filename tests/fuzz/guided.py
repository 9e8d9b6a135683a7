"""Feed both twins bytes that chance made, led by what the pure one has not done yet.

Inputs that take the pure twin along lines it never took in that order are kept and changed
further; so the search goes deeper by itself. Every input goes to both twins' decoders and
lanes, and any difference ends the run.

    python -m tests.fuzz.guided --seconds 3600 --seed 7

A difference is printed with the input in hex; put that into `FOUND` in test_guided.py, where it
stays as a test.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tests.frame.golden import BAD, GOOD
from tests.frame.rig import METHODS, PURE, Rig, pack
from tests.frame.twins import COMPARED, agree, both, shown

MAX_BODY = 600
_TRACED = ("_frame_py.py", "_lane_py.py")
_CUTS = (0, 0, 1, 3, 19, 20, 21, 40, 64)
_WORDS = [
    b"\xfa\x57", b"\x00\x14", b"\x00\x18", b"\x00\x20", b"\x00\x24", b"\x01\x00", b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", bytes(4), bytes(8), b"\x00\x00\x02\x58",
    b"\x00\x00\x80\x00", b"\x01", b"\x81", b"\x41", b"\x40", b"\xdd", b"\xdf\x00\x01",
]  # fmt: skip

Arcs = set[tuple[int, int]]


def seeds() -> list[bytes]:
    """Return what to begin with: the golden frames, and calls and replies a lane knows."""
    data = [vector.data for vector in [*GOOD, *BAD]]
    for id, name in enumerate(METHODS, 1):
        fields: dict[str, Any] = {"serializer": 1, "name": name.encode(), "payload": pack([1])}
        data.append(PURE.encode_frame(0, id, arg=id % 4, **fields))
        data.append(PURE.encode_frame(0, id, arg=id % 4, serializer=1, payload=pack([id])))
        data.append(PURE.encode_frame(0, id, reply=True, serializer=1, payload=pack({"v": id})))
    data.append(PURE.encode_frame(0, 30, serializer=1, name=b"echo", payload=pack([bytes(40_000)])))
    # The first two bytes say how the rest is fed.
    return [b"\0\0" + one for one in data] + [b"\x01\x01" + data[4] + one for one in data]


def history(twin: Any, data: bytes) -> tuple[Any, Any]:
    """Feed *data* to a decoder and to a lane of *twin*, and return what came of it."""
    how, options, stream = data[0], data[1], data[2:]
    step = _CUTS[how % len(_CUTS)] or max(len(stream), 1)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    decoder = twin.FrameDecoder(MAX_BODY)
    frames: list[Any] = []
    try:
        for piece in [*pieces, b""]:
            frames += [shown(frame) for frame in decoder.feed(piece)]
    except Exception as exc:
        frames.append(shown(exc))
    rig = Rig(twin, opened=options & 1 == 0, max_body=2**20 if options & 2 else MAX_BODY)
    rig.lane.raw = options & 4 != 0
    rig.lane.crowded = options & 32 != 0
    rig.lane.peer_body = 40 if options & 64 else 2**20
    for n in range(options & 8):
        rig.call("m", n, timeout=n / 2)
    for at, piece in enumerate(pieces):
        try:
            rig.receive(piece) if options & 16 else rig.lane.feed(piece)
        except SystemExit as exc:
            rig.owner.log.append(("left", shown(exc)))
        if at % 5 == 4:
            rig.lane.resume()
    rig.lane.paused = False
    rig.lane.resume()
    rig.now += 2.0
    late = [slot[1:] for slot in rig.lane.sweep(rig.now)]
    rig.turn()
    return frames, (late, rig.record())


@contextmanager
def watched(arcs: Arcs) -> Iterator[None]:
    """Note in *arcs* which line of the pure twin follows which, while the block runs."""
    # The harness may itself be measured: whoever traced before goes on after.
    before = sys.gettrace()

    def enter(frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(_TRACED):
            return None
        last = [0]

        def step(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
            if event == "line":
                arcs.add((last[0], frame.f_lineno + (hash(frame.f_code.co_filename) << 16)))
                last[0] = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def changed(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return one input made from those of *corpus*."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                word = rng.choice(_WORDS)
                data[at : at + len(word)] = word
            case 3:
                data[at:at] = rng.choice(_WORDS)
            case 4:
                del data[at : at + rng.choice((1, 2, 4, 20))]
            case 5:
                data += rng.choice(corpus)[2:]
            case _:
                other = rng.choice(corpus)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data[:4000].ljust(2, b"\0"))


def compare(data: bytes) -> None:
    """Put one input to both twins."""
    pure, compiled = both()
    agree("guided inputs", history(pure, data), history(compiled, data), data.hex())


def search(rng: random.Random, goes_on: Callable[[int], bool]) -> tuple[int, int]:
    """Compare the twins while *goes_on*; return how many inputs were kept, and arcs seen."""
    first = seeds()
    corpus = list(first)
    arcs: Arcs = set()
    pure, compiled = both()
    count = 0
    while goes_on(count):
        data = first[count] if count < len(first) else changed(rng, corpus)
        seen: Arcs = set()
        with watched(seen):
            one = history(pure, data)
        agree("guided inputs", one, history(compiled, data), data.hex())
        if not seen <= arcs:
            arcs |= seen
            if count >= len(first):
                corpus.append(data)
        count += 1
    return len(corpus), len(arcs)


def main() -> None:
    """Search until the time is up, or a difference is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    end = time.monotonic() + options.seconds
    kept, arcs = search(random.Random(options.seed), lambda count: time.monotonic() < end)
    print(f"{COMPARED['guided inputs']:,} inputs, {kept} kept, {arcs} arcs: no difference")


if __name__ == "__main__":
    main()
