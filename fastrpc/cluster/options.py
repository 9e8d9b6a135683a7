"""Hold the options of a client of a cluster, beside those that every client has."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast, final, get_args

from fastrpc.client.options import FailureMode
from fastrpc.cluster.engines import TTL
from fastrpc.errors import ConfigError
from fastrpc.policy import EjectionOptions

__all__ = ["ClusterOptions"]

ATTEMPTS_MAX: Final = 16

#: The balancer that goes by a key.
BY_KEY: Final = "consistent_hash"

PERCENTILES: Final = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """How a client of a cluster chooses instances, and what it does about failures.

    They are keyword arguments of `fastrpc.connect`, for targets that are registries.

    Attributes:
        balance: Name of a balancer: "two_choices", "random", "round_robin", "weighted",
            "least_in_flight" or "consistent_hash"; or a function without arguments that
            makes a `Balancer` of your own.
        key: What consistent hashing goes by: name or place of an argument ("user", "0"),
            a key of the metadata ("metadata:tenant"), or a function of the call,
            `key(method, args, kwargs)`.
        failure_mode: "fail_fast": every error is the caller's. "fail_over": another
            instance is tried. "retry": the same one is tried again. "hedge": a second one
            is asked when the first takes long; for idempotent methods, others fail over.
        attempts: Most times a call is sent, the first included.
        retry_share: Retries for each call that the budget has.
        retry_rate: Retries a second it has beside them.
        hedge_after: Seconds until a second instance is asked, or the share of calls that
            come back sooner: "p50", "p90", "p95", "p99".
        ejection: When an instance that fails is left alone; None for never.
        slow_start: Seconds in which an instance that joins comes to its full share.
        zone: Where this client stands; instances there come first.
        version: Version of the service to call.
        group: Group of the service to call.
        subset: Most instances to connect to, 0 for all.
        cache: File that keeps the last list over restarts; None for none.
        ttl: Seconds, as for `open_registry`; how soon changes are seen where that is polled.
    """

    balance: str | Callable[[], Any] = "two_choices"
    key: str | Callable[..., object] | None = None
    failure_mode: FailureMode = "fail_over"
    attempts: int = 3
    retry_share: float = 0.2
    retry_rate: float = 10.0
    hedge_after: float | str = "p95"
    ejection: EjectionOptions | None = field(default_factory=EjectionOptions)
    slow_start: float = 30.0
    zone: str = ""
    version: str = ""
    group: str = ""
    subset: int = 0
    cache: str | None = None
    ttl: float = TTL

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        if self.failure_mode not in get_args(FailureMode):
            known = ", ".join(get_args(FailureMode))
            raise ConfigError(f"failure_mode must be one of {known}; got {self.failure_mode!r}")
        if type(self.attempts) is not int or not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise ConfigError(f"attempts must be 1 to {ATTEMPTS_MAX}, got {self.attempts!r}")
        if type(self.subset) is not int or self.subset < 0:
            raise ConfigError(f"subset must be a whole number, 0 or more, got {self.subset!r}")
        for name in ("retry_share", "retry_rate", "slow_start"):
            _check_number(name, getattr(self, name))
        check_hedge(self.hedge_after)
        for name in ("zone", "version", "group"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be text, got {getattr(self, name)!r}")
        cache: object = self.cache
        if cache is not None and not isinstance(cache, str | os.PathLike):
            raise ConfigError(f"cache must be the name of a file, got {cache!r}")
        if not isinstance(self.ejection, EjectionOptions | None):
            raise ConfigError(f"ejection must be EjectionOptions, got {self.ejection!r}")
        self._check_key()

    def _check_key(self) -> None:
        """Refuse a key that can't be one, or that nobody would ask for."""
        key: object = self.key
        if key is not None and not isinstance(key, str) and not callable(key):
            raise ConfigError(f"key must name an argument, or be a function, got {key!r}")
        if key is not None and isinstance(self.balance, str) and self.balance != BY_KEY:
            raise ConfigError(f'key is for balance="{BY_KEY}", not for {self.balance!r}')


def _check_number(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= cast("float", value) < float("inf"):
        raise ConfigError(f"{name} must be a number, 0 or more, got {value!r}")


def check_hedge(after: object) -> None:
    """Refuse a time that no second try can be made after.

    Raises:
        ConfigError: It is neither above 0 nor a share that is known.
    """
    if isinstance(after, str):
        if after not in PERCENTILES:
            raise ConfigError(f"hedge_after must be seconds or {', '.join(PERCENTILES)}: {after!r}")
    elif isinstance(after, bool) or not isinstance(after, int | float) or not 0 < after < 3600:
        raise ConfigError(f"hedge_after must be above 0 and below 3600 seconds, got {after!r}")
