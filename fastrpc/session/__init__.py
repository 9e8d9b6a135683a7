"""One live connection: open, call, answer, keep alive, drain, close.

Read `session` first; `answer` runs the handlers that the lane does not run,
`outcome` makes exceptions of replies, `ticker` gives them their time, `side` is
what all connections of one server or client share.
"""

from fastrpc.session import fork, outcome
from fastrpc.session.answer import Answerer
from fastrpc.session.blocking import BlockingSession, blocking_share
from fastrpc.session.blocking_calls import Batch, exchange
from fastrpc.session.blocking_stream import BlockingCore, BlockingStream
from fastrpc.session.farewell import part
from fastrpc.session.handling import Handling
from fastrpc.session.origin import Late, Origin
from fastrpc.session.routes import Routes
from fastrpc.session.session import Session
from fastrpc.session.side import SEGMENTS, Side
from fastrpc.session.stream import Stream
from fastrpc.session.threads import Threads
from fastrpc.session.ticker import Ticker, share_of
from fastrpc.session.view import KEEP, Keep, View, check_timeout

__all__ = [
    "KEEP",
    "SEGMENTS",
    "Answerer",
    "Batch",
    "BlockingCore",
    "BlockingSession",
    "BlockingStream",
    "Handling",
    "Keep",
    "Late",
    "Origin",
    "Routes",
    "Session",
    "Side",
    "Stream",
    "Threads",
    "Ticker",
    "View",
    "blocking_share",
    "check_timeout",
    "exchange",
    "fork",
    "outcome",
    "part",
    "share_of",
]
