"""Say what a connection may do next: hello, states, guards against abuse.

This room is sans-I/O: it is given bytes and times, and returns bytes and
decisions. It exists apart from the session so that every rule of
docs/spec/session.md can be tested without a socket and without a clock.

Rules of the room:
  * nothing here touches a socket, an event loop, a clock or a log;
  * control frames only: the plain call never comes through here;
  * what a peer sent wrongly is a `ProtocolError`, what the caller of this room
    did wrongly is a `ConfigError`.
"""

from fastrpc.protocol.guard import LogLimiter, PeerGuard, TokenBucket
from fastrpc.protocol.hello import (
    Option,
    Refusal,
    confirm,
    decode_option,
    decode_refusal,
    encode_option,
    encode_refusal,
    negotiate,
)
from fastrpc.protocol.nonces import Nonces
from fastrpc.protocol.states import TRANSITIONS, Input, State, step

__all__ = [
    "TRANSITIONS",
    "Input",
    "LogLimiter",
    "Nonces",
    "Option",
    "PeerGuard",
    "Refusal",
    "State",
    "TokenBucket",
    "confirm",
    "decode_option",
    "decode_refusal",
    "encode_option",
    "encode_refusal",
    "negotiate",
    "step",
]
