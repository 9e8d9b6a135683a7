"""Show people and monitors what a server does: facts, the debug page, metrics.

All of them are made from one snapshot, taken when somebody asks. What a server pays while
nobody looks are a few counters, and two looks at the clock for one plain call in sixteen.

Rules of the room:
  * looking changes nothing, but for a clock that ticks while somebody watches;
  * what is told has bounds: so many methods, connections, calls, so long a text.
"""

from fastrpc.observe.facts import Facts
from fastrpc.observe.watcher import snapshot

__all__ = ["Facts", "snapshot"]
