"""Check every (state, input) pair of the connection's state table."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ProtocolError
from fastrpc.protocol.states import TRANSITIONS, Input, State, step

# Written out once more on purpose, by hand, row by row: a slip in the table
# has to be made twice to go unseen. "-" is illegal.
EXPECTED = """
           connected hello refused frame    goaway   drain    done   failed expired lost   close
connecting hello     -     -       -        -        closed   -      closed closed  closed closed
hello      -         open  closed  -        closed   closed   -      closed closed  closed closed
open       -         -     -       open     draining draining -      closed closed  closed closed
draining   -         -     -       draining draining draining closed closed closed  closed closed
closed     -         closed closed closed   closed   closed   closed closed closed  closed closed
"""


def expected() -> dict[tuple[State, Input], State | None]:
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {
        (State(row[0]), Input(event)): None if cell == "-" else State(cell)
        for row in rows
        for event, cell in zip(head, row[1:], strict=True)
    }


def test_the_expected_table_is_whole() -> None:
    assert set(expected()) == set(product(State, Input))


@pytest.mark.parametrize(("state", "event"), list(product(State, Input)))
def test_every_pair(state: State, event: Input) -> None:
    after = expected()[state, event]
    if after is None:
        assert (state, event) not in TRANSITIONS
        with pytest.raises(ProtocolError) as caught:
            step(state, event)
        assert caught.value.status == 70
        assert str(caught.value)
    else:
        assert step(state, event) is after
        assert TRANSITIONS[state, event] is after


@pytest.mark.parametrize(
    ("state", "event", "words"),
    [
        (State.HELLO, Input.FRAME, "the first frame of a connection must be HELLO"),
        (State.OPEN, Input.HELLO, "a second HELLO came"),
        (State.DRAINING, Input.HELLO, "a second HELLO came"),
        (State.CLOSED, Input.CONNECTED, "closed before it was made"),
        (State.OPEN, Input.DONE, "'done' has no place in state 'open'"),
    ],
)
def test_the_words_name_the_rule(state: State, event: Input, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        step(state, event)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[State.CLOSED, Input.CONNECTED] = State.OPEN  # type: ignore[index]


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.CONNECTING} | set(TRANSITIONS.values())
    assert reached == set(State)
    for state in set(State) - {State.CLOSED}:
        assert step(state, Input.CLOSE) is State.CLOSED


@given(st.lists(st.sampled_from(Input), max_size=30))
def test_closed_is_for_ever_and_open_comes_only_after_hello(events: list[Input]) -> None:
    state, seen = State.CONNECTING, []
    for event in events:
        before = state
        try:
            state = step(state, event)
        except ProtocolError:
            continue  # the session would fail the connection here; the state stays
        seen.append(event)
        assert not (before is State.CLOSED and state is not State.CLOSED)
        if state in (State.OPEN, State.DRAINING):
            assert seen[:2] == [Input.CONNECTED, Input.HELLO]
