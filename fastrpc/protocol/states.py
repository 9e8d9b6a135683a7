"""Say in which state a connection is, and what each event makes of it.

One table for both ends: it does not know which side we are. The diagram in
docs/spec/session.md is drawn from it, so this file is the only place to change.

Rules of the room:
  * every transition stands in `TRANSITIONS`; there is no second way to change state;
  * a pair that is not in the table is a broken rule and raises;
  * calls are not counted here: "nothing in flight" is told from outside.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from fastrpc.errors import ProtocolError


class State(Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    HELLO = "hello"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Input(Enum):
    """What can happen to a connection."""

    CONNECTED = "connected"  # the byte pipe is there
    HELLO = "hello"  # the peer's HELLO came and was accepted
    REFUSED = "refused"  # a HELLO with a status other than ok was sent, or came
    FRAME = "frame"  # any other frame of the peer's came
    GOAWAY = "goaway"  # the peer's GOAWAY came
    DRAIN = "drain"  # we take no more calls: GOAWAY goes out
    DONE = "done"  # nothing is in flight any more
    FAILED = "failed"  # the peer broke a rule: GOAWAY 70 or 71 goes out
    EXPIRED = "expired"  # a time limit of the state passed
    LOST = "lost"  # the byte pipe ended
    CLOSE = "close"  # we close without waiting


_ENDINGS: Final = (Input.FAILED, Input.EXPIRED, Input.LOST, Input.CLOSE)

_TABLE: Final[dict[State, dict[Input, State]]] = {
    State.CONNECTING: {
        Input.CONNECTED: State.HELLO,
        Input.DRAIN: State.CLOSED,
        **dict.fromkeys(_ENDINGS, State.CLOSED),
    },
    State.HELLO: {
        Input.HELLO: State.OPEN,
        Input.REFUSED: State.CLOSED,
        # Nothing of the peer's was taken yet, so there is nothing to finish.
        Input.GOAWAY: State.CLOSED,
        Input.DRAIN: State.CLOSED,
        **dict.fromkeys(_ENDINGS, State.CLOSED),
    },
    State.OPEN: {
        Input.FRAME: State.OPEN,
        Input.GOAWAY: State.DRAINING,
        Input.DRAIN: State.DRAINING,
        **dict.fromkeys(_ENDINGS, State.CLOSED),
    },
    State.DRAINING: {
        Input.FRAME: State.DRAINING,
        # Either side may drain in two steps, and both may drain at once.
        Input.GOAWAY: State.DRAINING,
        Input.DRAIN: State.DRAINING,
        Input.DONE: State.CLOSED,
        **dict.fromkeys(_ENDINGS, State.CLOSED),
    },
    # Closed swallows what was under way when it closed. Only a pipe that opens
    # too late must be noticed, or nobody would close it.
    State.CLOSED: {event: State.CLOSED for event in Input if event is not Input.CONNECTED},
}

#: The next state for every legal (state, input) pair.
TRANSITIONS: Final[Mapping[tuple[State, Input], State]] = MappingProxyType(
    {(state, event): after for state, row in _TABLE.items() for event, after in row.items()}
)

_WHY: Final[Mapping[tuple[State, Input], str]] = MappingProxyType(
    {
        (State.HELLO, Input.FRAME): "the first frame of a connection must be HELLO",
        (State.OPEN, Input.HELLO): "a second HELLO came",
        (State.DRAINING, Input.HELLO): "a second HELLO came",
        (State.CLOSED, Input.CONNECTED): "the connection was closed before it was made",
    }
)


def step(state: State, event: Input) -> State:
    """Return the state that follows *state* after *event*.

    Raises:
        ProtocolError: *event* has no place in *state*.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        why = _WHY.get((state, event), f"{event.value!r} has no place in state {state.value!r}")
        raise ProtocolError(why)
    return after
