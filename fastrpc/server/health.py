"""Tell in a few numbers how a server is: what `fastrpc.health` answers.

It is for programs: balancers, `fastrpc ls`, `fastrpc top`, a check of an orchestrator. It
costs next to nothing, and is answered when nothing else is.

Rules of the room:
  * what is told is read from what is counted anyway: nothing is measured for it;
  * keys are added, never renamed or taken away.
"""

from typing import TYPE_CHECKING, Any, Final

from fastrpc.session import Answerer

if TYPE_CHECKING:
    from fastrpc.server.overload import Overload
    from fastrpc.session import Side

HEALTH: Final = "fastrpc.health"


def health_of(
    state: str,
    most: int,
    side: "Side | None",
    answers: Answerer | None,
    overload: "Overload | None",
) -> dict[str, Any]:
    """Return how a server is.

    Args:
        state: Where it stands.
        most: Most calls in flight that its options allow.
        side: What its sessions share, None before the start.
        answers: Runs its handlers, None before the start.
        overload: Refuses what is too much, None if nobody does.

    Returns:
        *state*, "serving" or "draining"; *lag*, the seconds that the event loop came late to
        its last slow tick, which is once a second; *running*, the calls in flight; *limit*,
        how many may be; *refused*, calls that were not run since the start; *overloaded*,
        whether calls are refused because the loop is too busy.
    """
    return {
        "state": state,
        "lag": side.ticker.lag if side is not None else 0.0,
        "running": answers.running if answers is not None else 0,
        "limit": overload.limit if overload is not None else most,
        "refused": answers.replies.refused if answers is not None else 0,
        "overloaded": overload.budget.is_pressed if overload is not None else False,
    }
