"""Say which members may be picked now: those that are well, or all if too few are.

Rules of the room:
  * time is an argument;
  * one that is probed has one call at a time, as long as others take the rest;
  * if more are unwell than a group can bear, the judgement is not believed: all are used
    as if none was.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from fastrpc.policy import EjectionOptions, Standing, is_panic


class Judged(Protocol):
    """What counts of a member here.

    Attributes:
        cap: Most calls in flight there, 0 for what its connections take.
        rests_until: When it may be asked again, if it wanted to be left alone.
    """

    cap: int
    rests_until: float

    @property
    def standing(self) -> Standing:
        """How it stands."""

    @property
    def is_reachable(self) -> bool:
        """Whether there is a connection to it."""


_Member = TypeVar("_Member", bound=Judged)


def arrange(
    known: Sequence[_Member], now: float, ejection: EjectionOptions | None
) -> list[_Member]:
    """Return those of *known* that may be picked, and set their caps.

    Args:
        known: All members that want calls.
        now: Time of the clock.
        ejection: By what they are judged, None if they are not.
    """
    up = [member for member in known if member.is_reachable]
    unwell = sum(member.standing is not Standing.GOOD for member in known)
    is_trusted = ejection is not None and not is_panic(unwell, len(known), ejection)
    well = up
    if is_trusted:
        well = [member for member in up if member.standing is not Standing.EJECTED]
    awake = [member for member in well if now >= member.rests_until]
    chosen = awake or well or up
    has_others = any(member.standing is Standing.GOOD for member in chosen)
    for member in chosen:
        is_probe = is_trusted and has_others and member.standing is Standing.PROBED
        member.cap = 1 if is_probe else 0
    return chosen
