"""Decide about calls: whom to let in, how long they may take, what to note, when to retry.

Each policy is a state machine without a clock, with an interceptor around it where it
is about calls. Servers and clients take the interceptors as they take those of users.

Rules of the room:
  * time and chance are arguments, so that every schedule can be replayed;
  * a policy never sleeps, makes no call of its own, and keeps no call alive;
  * only the access log logs.
"""

from fastrpc.policy.access import access_log
from fastrpc.policy.backoff import Backoff
from fastrpc.policy.budget import RetryBudget
from fastrpc.policy.ejection import Ejection, EjectionOptions, Standing, is_panic
from fastrpc.policy.ending import Outcome
from fastrpc.policy.resend import Resend, has_run, is_fault, judge, pushback
from fastrpc.policy.timeout import default_timeout, max_timeout
from fastrpc.policy.timing import MethodTiming, Timings
from fastrpc.policy.token import bearer, require_token

__all__ = [
    "Backoff",
    "Ejection",
    "EjectionOptions",
    "MethodTiming",
    "Outcome",
    "Resend",
    "RetryBudget",
    "Standing",
    "Timings",
    "access_log",
    "bearer",
    "default_timeout",
    "has_run",
    "is_fault",
    "is_panic",
    "judge",
    "max_timeout",
    "pushback",
    "require_token",
]
