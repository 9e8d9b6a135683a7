"""The same story told to both twins' lanes: they write, hand up and count the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc import wire
from tests.frame.rig import Rig
from tests.frame.scripts import BEGINNINGS, STORIES, Event, begin, play
from tests.frame.twins import agree, both

pytestmark = pytest.mark.compiled


def told(rigs: tuple[Rig, Rig], story: list[Event]) -> None:
    """Play *story* on both and compare after each event, and all of it at the end."""
    for at, event in enumerate(story):
        came = [play(rig, event) for rig in rigs]
        states = [rig.state() for rig in rigs]
        if came[0] != came[1] or states[0] != states[1]:
            agree("lane stories", (came[0], states[0]), (came[1], states[1]), story[: at + 1])
    records = [rig.record() for rig in rigs]
    agree("lane stories", records[0], records[1], story)


@given(
    story=STORIES,
    beginning=BEGINNINGS,
    first_id=st.sampled_from([1, 1, wire.ID_MAX - 3]),
)
def test_a_story(story: list[Event], beginning: dict[str, Any], first_id: int) -> None:
    pure, compiled = (Rig(twin, first_id=first_id) for twin in both())
    for rig in (pure, compiled):
        begin(rig, beginning)
    told((pure, compiled), story)
