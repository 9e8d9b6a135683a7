"""The same schedule for the streams of both twins: outputs, errors and what leaves agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.frame.schedules import SCHEDULES, Event, Stage
from tests.frame.twins import agree, both

pytestmark = pytest.mark.compiled


@given(
    schedule=SCHEDULES, window=st.sampled_from([1, 60, 1000, 2**20]),
    credit=st.sampled_from([0, 1, 100, 2**20]),
)  # fmt: skip
def test_a_schedule(schedule: list[Event], window: int, credit: int) -> None:
    stages = [Stage(twin, window, credit) for twin in both()]
    try:
        for at, event in enumerate(schedule):
            came = [stage.play(event) for stage in stages]
            states = [stage.state() for stage in stages]
            if came[0] != came[1] or states[0] != states[1]:
                agree(
                    "stream schedules", (came[0], states[0]), (came[1], states[1]),
                    schedule[: at + 1],
                )  # fmt: skip
        agree("stream schedules", stages[0].state(), stages[1].state(), schedule)
    finally:
        for stage in stages:
            stage.close()
