"""Say what a balancer is: members and a call's key in, the member that takes the call out.

Every balancer is one class that keeps this contract, ours and a user's;
`fastrpc.testing` has the suite that shows it, `check_balancer`.

Rules of the room:
  * time is an argument, chance has a seed: the same schedule gives the same picks;
  * nothing is known of a member but what `Candidate` has, and how many calls it has in
    flight may change at any time without a word;
  * a pick costs the same whether there are ten members or a thousand, as long as most of
    them take calls.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice
from typing import Protocol

from fastrpc.cluster.instance import Instance


class Candidate(Protocol):
    """What a balancer may look at of a `Member`."""

    @property
    def instance(self) -> Instance:
        """What the registry says of it."""

    @property
    def weight(self) -> float:
        """Its share of the calls beside others, above 0."""

    @property
    def in_flight(self) -> int:
        """Calls that were sent to it and have not ended."""

    def takes(self) -> bool:
        """Return whether it takes a call now."""

    def cost(self, now: float) -> float:
        """Return what a call to it costs beside others; infinity if it takes none."""


class Balancer(ABC):
    """Chooses the member that a call goes to."""

    @abstractmethod
    def update(self, members: Sequence[Candidate], now: float) -> None:
        """Choose from *members* from now on.

        Called when one came or left, when a weight or a standing changed; members that
        stay are the same objects, in the same order beside each other. If it fails,
        what was chosen from before is chosen from on.
        """

    @abstractmethod
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        """Return a member that takes a call now, None only if there is none.

        Args:
            key: What the call is about, None for nothing.
            now: Time of the clock.
            avoid: Members that are taken only if all others take none.
        """


def first_that_takes(
    members: Sequence[Candidate], start: int, avoid: Collection[Candidate]
) -> Candidate | None:
    """Return the first member that takes a call, from place *start* on; the avoided ones last."""
    around: Iterable[Candidate] = chain(islice(members, start, None), islice(members, start))
    spare = None
    for member in around:
        if member.takes():
            if member not in avoid:
                return member
            spare = spare or member
    return spare
