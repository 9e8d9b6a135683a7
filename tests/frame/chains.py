"""Chains as tests want them, callers that use them, and what runs them at the answering side."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

VAR = ContextVar("VAR", default="unset")
INHERITED = ContextVar("INHERITED", default=0.0)


def call_of(twin: SimpleNamespace, *args: Any, **fields: Any) -> Any:
    call = twin.CallFields("m", args, fields.pop("kwargs", {}))
    for name, value in fields.items():
        setattr(call, name, value)
    return call


class Chain:
    """A chain as a test wants it: awaits what it is told to, and notes where it ran."""

    def __init__(self, twin: SimpleNamespace, *waits: Awaitable[Any], gives: Any = None) -> None:
        self.twin = twin
        self.waits = waits
        self.gives = twin.ReplyFields("value") if gives is None else gives
        self.log: list[Any] = []

    async def __call__(self, call: Any) -> Any:
        self.log.append(("begins", VAR.get()))
        try:
            for thing in self.waits:
                self.log.append(await thing)
            if isinstance(self.gives, BaseException):
                raise self.gives
            return self.gives
        except BaseException as exc:
            self.log.append(type(exc).__name__)
            raise
        finally:
            self.log.append("ends")

    def pending(self) -> Any:
        return self.twin.Pending(self(None), "A.b")


def caller(twin: SimpleNamespace, chain: Any, **options: Any) -> Any:
    given = {"timeout": 0.0, "metadata": b"", "inherited": INHERITED, "clock": lambda: 100.0}
    sender = twin.Sender([], refuse, None, print, twin.ReplyFields, print)
    return twin.ChainCaller(chain, sender, twin.CallFields, **{**given, **options})


def refuse(call: Any, decode: Any) -> Any:
    raise AssertionError("nothing is sent here")


class Steps:
    """Stands in for `FirstSteps`: an idle task, and what was handed over."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle = self.loop.create_task(_idle())
        self.kept: list[Any] = []

    def task(self) -> Any:
        return self.idle

    def keep(self, *rest: Any) -> Any:
        self.kept.append(rest)
        return ("rest", *rest)


async def _idle() -> None:
    await asyncio.get_running_loop().create_future()


class Stage:
    """A `Through` of one twin with all it needs.

    Args:
        twin: Which.
        chain: What it runs.
        **options: Instead of what is usual.
    """

    def __init__(
        self,
        twin: SimpleNamespace,
        chain: Callable[[Any], Any],
        handler: Any = None,
        **options: Any,
    ) -> None:
        self.twin = twin
        self.steps = Steps()
        self.running: list[Any] = []
        self.owner = SimpleNamespace(running=[])
        self.inherited = ContextVar("inherited", default=0.0)
        sender = twin.AtOnce(
            handler or (lambda *args: ["handled", *args]),
            False,
            twin.ReplyFields,
            self.inherited,
            lambda: 99.0,
        )
        given = {
            "name": "A.b", "chain": chain, "sender": sender, "make": twin.CallFields,
            "steps": self.steps, "running": self.running, "most": 3, "most_here": 2,
            "limit": lambda time: 100.0 + time / 1000, "has_limit": False,
            "inherited": self.inherited,
        }  # fmt: skip
        self.through = twin.Through(**{**given, **options})

    def go(
        self, *args: Any, flags: int = 0, id: int = 7, time: int = 0, metadata: bytes = b""
    ) -> Any:
        """Let a call come from outside of any task, as from the loop's reader; return its end."""
        told: list[Any] = []

        def come() -> None:
            try:
                told.append(self.through(self.owner, flags, id, time, metadata, args))
            except BaseException as exc:
                told.append(exc)

        current = asyncio.current_task()
        assert current is not None
        asyncio.tasks._leave_task(self.steps.loop, current)
        try:
            come()
            assert asyncio.current_task() is None
        finally:
            asyncio.tasks._enter_task(self.steps.loop, current)
        return told.pop()

    async def close(self) -> None:
        """End the idle task."""
        self.steps.idle.cancel()
        await asyncio.wait([self.steps.idle])
