"""One live connection: open, call, answer, keep alive, drain, close.

Read `session` first; `answer` runs the handlers that the lane does not run,
`outcome` makes exceptions of replies, `ticker` gives them their time, `side` is
what all connections of one server or client share.
"""

from fastrpc.session import fork, outcome
from fastrpc.session.answer import Answerer
from fastrpc.session.blocking import BlockingSession, Waiter
from fastrpc.session.session import Session
from fastrpc.session.side import Side
from fastrpc.session.ticker import Ticker

__all__ = ["Answerer", "BlockingSession", "Session", "Side", "Ticker", "Waiter", "fork", "outcome"]
