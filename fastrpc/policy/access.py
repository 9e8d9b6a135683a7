"""Write a line about each call when it has ended: who asked for what, and how it went.

It is an interceptor and not a part of the session, so that who does not want it pays
nothing, and so that it sees what other interceptors made of a call.

Rules of the room:
  * a line has no argument, no metadata, no result and no text of an error: these may
    be secret, or a peer's;
  * what is left out is counted.
"""

import json
import logging
import random
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from fastrpc.call import Call, Handler, Interceptor
from fastrpc.errors import ConfigError
from fastrpc.policy.ending import Clock, Ending, Outcome, noting
from fastrpc.protocol import TokenBucket

#: Levels of the lines, by outcome.
LEVELS: Final[Mapping[Outcome, int]] = {
    Outcome.OK: logging.INFO,
    Outcome.CANCELLED: logging.INFO,
    Outcome.REFUSED: logging.WARNING,
    Outcome.LATE: logging.WARNING,
    Outcome.FAILED: logging.ERROR,
}

_PLAIN: Final = re.compile(r"[\w.:/@+\[\]-]+", re.ASCII)


def access_log(
    log: logging.Logger | None = None,
    *,
    levels: Mapping[Outcome, int] = LEVELS,
    sample: float = 1.0,
    per_second: float | None = None,
    rng: random.Random | None = None,
    clock: Clock = time.monotonic,
) -> Interceptor:
    """Return an interceptor that logs one line per call, for servers and clients.

    The fields are also in the record, as a dict called `rpc`.

    Args:
        log: Where to; "fastrpc.access" by default.
        levels: Level of a line by outcome; those not named keep theirs.
        sample: Share of the calls that went well of which there is a line.
        per_second: Most lines per second in the long run, None for any number.
        rng: Source of chance for *sample*; an own one if None.
        clock: Seconds, for durations and *per_second*.

    Raises:
        ConfigError: *sample* is not 0 to 1, or *per_second* not above 0.
    """
    if not 0 <= sample <= 1:
        raise ConfigError(f"sample must be 0 to 1, got {sample!r}")
    if per_second is not None and not 0 < per_second < float("inf"):
        raise ConfigError(f"per_second must be above 0 and finite, got {per_second!r}")
    lines = _Lines(
        log or logging.getLogger("fastrpc.access"), {**LEVELS, **levels}, sample, per_second,
        rng or random.Random(), clock,
    )  # fmt: skip

    def logged(handler: Handler) -> Handler:
        return noting(handler, lines.write, clock)

    return logged


class _Lines:
    """Decide of which calls there is a line, and write it."""

    def __init__(
        self,
        log: logging.Logger,
        levels: Mapping[Outcome, int],
        sample: float,
        per_second: float | None,
        rng: random.Random,
        clock: Clock,
    ) -> None:
        self._log = log
        self._levels = levels
        self._sample = sample
        self._bucket = TokenBucket(per_second, max(per_second, 1.0)) if per_second else None
        self._rng = rng
        self._clock = clock
        self._left_out = 0

    def write(self, call: Call, ending: Ending) -> None:
        level = self._levels[ending.outcome]
        if not self._log.isEnabledFor(level):
            return
        is_dull = ending.outcome is Outcome.OK and self._sample < 1
        if (is_dull and self._rng.random() >= self._sample) or (
            self._bucket is not None and not self._bucket.take(self._clock())
        ):
            self._left_out += 1
            return
        fields = fields_of(call, ending)
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        self._log.log(level, "%s", line_of(fields), extra={"rpc": fields})


def fields_of(call: Call, ending: Ending) -> dict[str, Any]:
    """Return what a line tells; what there is none of is left out."""
    error = ending.error
    fields = {
        "method": call.method,
        "peer": call.peer.address if call.peer is not None else "",
        "call": call.id or getattr(error, "call_id", ""),
        "outcome": ending.outcome.value,
        "status": ending.status,
        "seconds": round(ending.seconds, 6),
        "received": ending.received,
        "sent": ending.sent,
        "oneway": call.is_oneway or None,
        "error": type(error).__name__ if isinstance(error, Exception) else None,
    }
    return {key: value for key, value in fields.items() if value not in (None, "")}


def line_of(fields: Mapping[str, Any]) -> str:
    """Return *fields* as one line of `key=value`, in which nothing can pass for another line."""
    return " ".join(f"{key}={_word(value)}" for key, value in fields.items())


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
