"""The guided search agrees so far, and would notice if it did not."""

import os
import random
from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.frame.twins import DIFFERENCES, both
from tests.fuzz import guided

pytestmark = pytest.mark.compiled

#: Inputs that once told the twins apart, in hex, each with what it was.
FOUND = {
    "the frame of a call whose handler raised lacked its name": (
        "0000fa570020010100000000000000000001000000060000000100000000000400006661696c9101"
    ),
    "a claim of more items than could follow": (
        "0010fa570020010100000000000000000001000000490000000100000000000400006563686f"
        "dd000f4240" + "00" * 64
    ),
}


@pytest.mark.parametrize("part", range(4))
@pytest.mark.timeout(3600)
def test_a_search(part: int) -> None:
    """As many inputs as the profile has examples; `make fuzz` asks for many, and for new ones."""
    fuzzing = not settings().derandomize
    rng = random.Random(part if not fuzzing else int.from_bytes(os.urandom(8), "big"))
    count = settings().max_examples * (1 if fuzzing else 10)
    kept, arcs = guided.search(rng, lambda done: done < count)
    assert kept > 200
    assert arcs > 350


@pytest.mark.parametrize("told", FOUND)
def test_what_was_found_once(told: str) -> None:
    guided.compare(bytes.fromhex(FOUND[told]))


def test_a_planted_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that is off by one in a single rare case."""
    pure, compiled = both()

    class Wrong:
        def __init__(self, max_body: int) -> None:
            self._right = compiled.FrameDecoder(max_body)

        def feed(self, data: bytes) -> list[object]:
            frames: list[object] = self._right.feed(data)
            for frame in frames:
                if frame.kind == 13:  # type: ignore[attr-defined]
                    frame.id += 1  # type: ignore[attr-defined]
            return frames

    wrong = SimpleNamespace(**{**vars(compiled), "FrameDecoder": Wrong})
    monkeypatch.setattr(guided, "both", lambda: (pure, wrong))
    with pytest.raises(AssertionError, match="the twins differ"):
        guided.search(random.Random(5), lambda done: done < 20_000)
    DIFFERENCES["guided inputs"] -= 1
