"""Say what shall go wrong with calls, and note what did.

    faults = Faults(seed=7)
    faults.lose_reply("Bank.transfer", nth=1)
    faults.delay("*", (0.01, 0.2), p=0.5)

    async with FaultRelay(server.targets[0], faults) as relay:
        client = fastrpc.connect(relay.target)

A rule is for methods (a glob) and says which of their calls it is for: the n-th, a share of
them, or all. `FaultRelay` does what the rules say, between a client and a real server, so
neither knows of it; `MemoryCluster` and `serving` have relays already.

Rules of the room:
  * the same seed and the same calls in the same order meet the same faults: each rule has
    chance and counters of its own, so that another rule beside it changes nothing;
  * what is noted was done; a rule that never came to anything is told, too;
  * built-in methods (`fastrpc.*`) are left alone, unless a glob names them.
"""

import random
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final, Literal, final

from fastrpc.errors import ConfigError

__all__ = ["Deed", "FaultKind", "Faults", "Rule"]

#: Most deeds that the log holds; older ones go.
LOG_MAX: Final = 10_000

_BUILT_IN: Final = "fastrpc."

#: Which of the two ways of a call a fault is for.
Part = Literal["request", "reply"]


class FaultKind(Enum):
    """What can happen to a call."""

    LOSE_REQUEST = "request lost"
    LOSE_REPLY = "reply lost"
    FAIL = "connection broken"
    DELAY = "delayed"
    DUPLICATE = "run twice"
    CUT = "cut in mid-frame"


@final
class Rule:
    """One thing that goes wrong with some calls. Made by `Faults`.

    Attributes:
        kind: What happens.
        methods: Glob of the methods' names.
        seconds: How long it takes, from and to.
        part: Whether it is the request that it happens to, or the reply.
        is_late: Whether it waits for the reply (`Faults.fail`), or for nothing (`duplicate`).
        size: Bytes before a cut; 0 for any.
        seen: How many calls it could have been for.
        chosen: How many of them it was for.
    """

    def __init__(
        self,
        kind: FaultKind,
        methods: str,
        rng: random.Random,
        nth: Collection[int] | None,
        p: float | None,
        *,
        seconds: tuple[float, float] = (0.0, 0.0),
        part: Part = "request",
        is_late: bool = False,
        size: int = 0,
    ) -> None:
        self.kind = kind
        self.methods = methods
        self.seconds = seconds
        self.part = part
        self.is_late = is_late
        self.size = size
        self.seen = 0
        self.chosen = 0
        self._rng = rng
        self._nth = nth
        self._p = p

    def __repr__(self) -> str:
        """Tell what it is for, and how often it was."""
        which = f" nth={sorted(self._nth)}" if self._nth else f" p={self._p:g}" if self._p else ""
        return f"<Rule {self.methods}{which}: {self.kind.value}, {self.chosen} of {self.seen}>"

    def matches(self, method: str) -> bool:
        """Say whether it is about calls of *method*."""
        if method.startswith(_BUILT_IN) and not self.methods.startswith(_BUILT_IN):
            return False
        return fnmatchcase(method, self.methods)

    def choose(self) -> bool:
        """Count a call, and say whether it is one for this rule."""
        self.seen += 1
        is_for = self.seen in self._nth if self._nth is not None else True
        if self._p is not None:
            is_for = self._rng.random() < self._p
        self.chosen += is_for
        return is_for

    def wait(self) -> float:
        """Return how long this one takes."""
        return self._rng.uniform(*self.seconds)

    def place(self, size: int) -> int:
        """Return behind how many bytes of a frame of *size* it is cut: 1 to all but one."""
        return min(self.size or self._rng.randrange(1, size), size - 1)


@final
@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done to a call.

    Attributes:
        kind: What was done.
        method: To a call of which method.
        call: Number of the call, as its caller has it.
        connection: Number of the connection, counted from 0 by each relay.
        target: Of the server.
        detail: What there is to say of it.
    """

    kind: FaultKind
    method: str
    call: int
    connection: int
    target: str
    detail: str = ""

    def __str__(self) -> str:
        """Tell it in a line."""
        detail = f" ({self.detail})" if self.detail else ""
        where = f"call {self.call} of connection {self.connection} to {self.target}"
        return f"{self.method}: {self.kind.value}{detail}: {where}"


@final
@dataclass(slots=True)
class Faults:
    """What shall go wrong, and what did.

    All rules that are for a call happen to it; of several of one kind the first counts.
    Methods that add one take the same two words: `nth`, a number from 1 or several, counted
    by this rule over all connections, tries that are made again included; or `p`, the
    probability of each call. Without either it is for every call.

    Args:
        seed: Of all chance there is.

    Attributes:
        rules: Those in force.
        log: What was done, oldest first.
        different: What ran twice and did not answer the same both times.
        is_on: Set it to False, and nothing happens and nobody counts.
    """

    seed: int = 0
    rules: list[Rule] = field(default_factory=list, init=False)
    log: deque[Deed] = field(default_factory=lambda: deque(maxlen=LOG_MAX), init=False)
    different: deque[Deed] = field(default_factory=lambda: deque(maxlen=LOG_MAX), init=False)
    is_on: bool = field(default=True, init=False)
    _made: int = field(default=0, init=False)

    # What shall go wrong

    def lose_request(
        self, methods: str, *, nth: int | Collection[int] | None = None, p: float | None = None
    ) -> Rule:
        """Let requests never arrive; the caller waits for as long as it has patience."""
        return self._add(FaultKind.LOSE_REQUEST, methods, nth, p)

    def lose_reply(
        self, methods: str, *, nth: int | Collection[int] | None = None, p: float | None = None
    ) -> Rule:
        """Let replies never arrive: the call has run, and its caller will not know."""
        return self._add(FaultKind.LOSE_REPLY, methods, nth, p, part="reply")

    def fail(
        self,
        methods: str,
        *,
        after: float | None = 0.0,
        nth: int | Collection[int] | None = None,
        p: float | None = None,
    ) -> Rule:
        """Break the connection while the handler runs.

        Args:
            methods: Of these methods.
            after: Seconds behind the request; if the answer comes sooner, it is lost with the
                connection. None: whenever the answer comes.
            nth: Which calls, see the class.
            p: How many of them, see the class.
        """
        seconds = _seconds(0.0 if after is None else after)
        return self._add(FaultKind.FAIL, methods, nth, p, seconds=seconds, is_late=after is None)

    def delay(
        self,
        methods: str,
        seconds: float | tuple[float, float],
        *,
        of: Part = "request",
        nth: int | Collection[int] | None = None,
        p: float | None = None,
    ) -> Rule:
        """Hold requests or replies back; others overtake them.

        Args:
            methods: Of these methods.
            seconds: How long, or from and to.
            of: Which of the two.
            nth: Which calls, see the class.
            p: How many of them, see the class.
        """
        return self._add(
            FaultKind.DELAY, methods, nth, p, seconds=_seconds(seconds), part=_part(of)
        )

    def duplicate(
        self,
        methods: str,
        *,
        at_once: bool = False,
        nth: int | Collection[int] | None = None,
        p: float | None = None,
    ) -> Rule:
        """Let requests run twice, as when somebody sends one again whose reply was lost.

        The caller gets the first answer, once both are there: by then whatever the second
        run did is done, too, and a test may look. Whether the answers were the same is in
        the log; those that were not are in `different`. Streams are left alone.

        Args:
            methods: Of these methods.
            at_once: Whether both run at the same time; else one after the other.
            nth: Which calls, see the class.
            p: How many of them, see the class.
        """
        return self._add(FaultKind.DUPLICATE, methods, nth, p, is_late=not at_once)

    def cut(
        self,
        methods: str,
        *,
        of: Part = "request",
        after: int = 0,
        nth: int | Collection[int] | None = None,
        p: float | None = None,
    ) -> Rule:
        """End the connection in the midst of a frame.

        Args:
            methods: Of these methods.
            of: Which frame.
            after: So many bytes of it arrive, 0 for any number: never all of them.
            nth: Which calls, see the class.
            p: How many of them, see the class.
        """
        if type(after) is not int or after < 0:
            raise ConfigError(f"after must be a number of bytes, got {after!r}")
        return self._add(FaultKind.CUT, methods, nth, p, part=_part(of), size=after)

    def _add(
        self,
        kind: FaultKind,
        methods: str,
        nth: int | Collection[int] | None,
        p: float | None,
        *,
        seconds: tuple[float, float] = (0.0, 0.0),
        part: Part = "request",
        is_late: bool = False,
        size: int = 0,
    ) -> Rule:
        if not methods:
            raise ConfigError(f"methods must be a glob such as 'Bank.*', got {methods!r}")
        rng = random.Random(f"{self.seed}/{self._made}")
        rule = Rule(
            kind, methods, rng, _numbers(nth), _share(nth, p),
            seconds=seconds, part=part, is_late=is_late, size=size,
        )  # fmt: skip
        self._made += 1
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Let *rule* be in force no more; calls that it was chosen for still meet it."""
        self.rules.remove(rule)

    def clear(self) -> None:
        """Have no rules."""
        self.rules.clear()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let nothing go wrong for a block."""
        before, self.is_on = self.is_on, False
        try:
            yield
        finally:
            self.is_on = before

    # What did

    @property
    def idle(self) -> list[Rule]:
        """The rules that were for no call yet: a test that has some proves less than it says."""
        return [rule for rule in self.rules if not rule.chosen]

    def report(self) -> str:
        """Return seed, rules and log as text, for people."""
        rules = [f"  {rule!r}" for rule in self.rules]
        return "\n".join([f"Faults, seed {self.seed}:", *rules, *map(str, self.log)])

    # For those who do it

    def fate(self, method: str, *, is_stream: bool = False) -> list[Rule]:
        """Return what shall happen to a call of *method* that begins now."""
        if not self.is_on:
            return []
        met = (rule for rule in self.rules if rule.matches(method))
        if is_stream:
            met = (rule for rule in met if rule.kind is not FaultKind.DUPLICATE)
        return [rule for rule in met if rule.choose()]

    def note(self, deed: Deed, *, is_different: bool = False) -> None:
        """Write down what was done."""
        self.log.append(deed)
        if is_different:
            self.different.append(deed)


def _numbers(nth: int | Collection[int] | None) -> frozenset[int] | None:
    if nth is None:
        return None
    found = frozenset([nth] if isinstance(nth, int) else nth)
    if not found or not all(type(each) is int and each > 0 for each in found):
        raise ConfigError(f"nth must be a number from 1, or several, got {nth!r}")
    return found


def _share(nth: object, p: float | None) -> float | None:
    if p is None:
        return None
    if nth is not None:
        raise ConfigError("a rule has nth or p, not both")
    if not 0.0 <= p <= 1.0:
        raise ConfigError(f"p must be 0 to 1, got {p!r}")
    return p


def _seconds(given: float | tuple[float, float]) -> tuple[float, float]:
    least, most = given if isinstance(given, tuple) else (given, given)
    if not 0.0 <= least <= most < float("inf"):
        raise ConfigError(f"seconds must be 0 or more, or from and to, got {given!r}")
    return least, most


def _part(given: object) -> Part:
    if given == "request":
        return "request"
    if given == "reply":
        return "reply"
    raise ConfigError(f"of must be 'request' or 'reply', got {given!r}")
