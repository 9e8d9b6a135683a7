"""One live connection: open, call, answer, keep alive, drain, close.

Read `session` first; `answer` runs the handlers that the lane does not run,
`outcome` makes exceptions of replies, `ticker` gives them their time, `side` is
what all connections of one server or client share.
"""

from fastrpc.session import fork, outcome
from fastrpc.session.answer import Answerer
from fastrpc.session.blocking import BlockingSession, blocking_share
from fastrpc.session.session import Session
from fastrpc.session.side import Side
from fastrpc.session.ticker import Ticker, share_of

__all__ = [
    "Answerer",
    "BlockingSession",
    "Session",
    "Side",
    "Ticker",
    "blocking_share",
    "fork",
    "outcome",
    "share_of",
]
