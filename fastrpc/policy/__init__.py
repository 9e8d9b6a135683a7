"""Decide about calls: when to try again, whom to leave alone, what to refuse.

Each policy is a state machine without a clock; what waits and what calls lives
in the rooms above.

Rules of the room:
  * time and chance are arguments, so that every schedule can be replayed;
  * a policy never calls, sleeps or logs.
"""

from fastrpc.policy.backoff import Backoff

__all__ = ["Backoff"]
