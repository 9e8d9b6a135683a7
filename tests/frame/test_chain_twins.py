"""The same random chains in both twins: each step, each end and each error agree."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.frame.halves import Job
from tests.frame.rig import Rig, Waiter
from tests.frame.twins import agree, both, shown

pytestmark = pytest.mark.compiled

INHERITED = ContextVar("INHERITED", default=0.0)
VALUES: list[Any] = [None, 0, "text", (1, 2), StopIteration(1), KeyError("x")]
ERRORS: list[Any] = [KeyError, StopIteration, asyncio.CancelledError, SystemExit]
GARBAGE: list[Any] = [None, 5, "call", ()]

#: What one interceptor does, outermost first.
DEEDS = st.sampled_from(
    ["pass", "wait", "wait after", "before", "after", "retry", "args", "kwargs", "reply",
     "another", "call", "none", "plain", "itself", "catch", "metadata", "deadline", "own"]
)  # fmt: skip
LAYERS = st.lists(
    st.tuples(DEEDS, st.sampled_from(range(len(ERRORS))), st.sampled_from(range(len(GARBAGE)))),
    max_size=4,
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["set", "set", "set", "fail", "cancel", "step"]), st.integers(0, 5)),
    max_size=8,
)
ARGS = st.lists(st.sampled_from([1, "a"]), max_size=3)


def wrapped(stage: "Stage", layer: tuple[str, int, int], handler: Any) -> Any:
    """Return an interceptor around *handler* that does what *layer* says."""
    deed, error, garbage = layer
    twin = stage.twin

    async def intercept(call: Any) -> Any:
        stage.log.append((deed, call.args, call.deadline, call.is_called))
        if deed == "wait":
            stage.log.append(await stage.waiter())
        elif deed == "before":
            raise ERRORS[error]("before")
        elif deed == "args":
            call.args = [*call.args, deed]
        elif deed == "kwargs":
            call.kwargs = [{"k": 1}, None, 5, {}][garbage]
        elif deed == "metadata":
            call.packed_metadata = call.reply_metadata = [b"md", (), "md", None][garbage]
        elif deed == "deadline":
            call.deadline = [0.0, 50.0, 103.0, 200.0][garbage]
        elif deed == "call":
            return await handler(GARBAGE[garbage])
        elif deed == "own":
            return await handler(twin.CallFields("own", (), {}))
        elif deed == "none":
            return GARBAGE[garbage]
        elif deed == "another":
            return twin.ReplyFields(GARBAGE[garbage], b"another")
        try:
            reply = await handler(call)
        except (KeyError, asyncio.CancelledError) as exc:
            stage.log.append(shown(exc)[0])
            if deed not in ("catch", "retry"):
                raise
            reply = await handler(call) if deed == "retry" else twin.ReplyFields("caught")
        if deed == "reply":
            reply.value = (deed, reply.value)
        elif deed == "after":
            raise ERRORS[error]("after")
        elif deed == "wait after":
            stage.log.append(await stage.waiter())
        return reply

    def plain(call: Any) -> Any:
        stage.log.append("plain")
        return handler(call)

    return {"plain": plain, "itself": handler}.get(deed, intercept)


class Stage:
    """The interceptors of one twin around one handler, at either side.

    Args:
        twin: Which.
        layers: What the interceptors do.
        answer: Which of VALUES the handler gives; beyond them, which of ERRORS it raises.
    """

    def __init__(self, twin: SimpleNamespace, layers: list[Any], answer: int) -> None:
        self.twin = twin
        self.log: list[Any] = []
        self.waiters: list[Waiter] = []
        self.answer = answer
        self.rig = Rig(twin)
        self.chain = twin.innermost
        for layer in reversed(layers):
            self.chain = wrapped(self, layer, self.chain)

    def waiter(self) -> Waiter:
        self.waiters.append(Waiter())
        return self.waiters[-1]

    def handler(self, *args: Any, **kwargs: Any) -> Any:
        self.log.append(("handler", args, kwargs, INHERITED.get()))
        if self.answer < len(VALUES):
            return VALUES[self.answer]
        raise ERRORS[self.answer - len(VALUES)]("handler")

    async def later(self, *args: Any, **kwargs: Any) -> Any:
        return self.handler(*args, **kwargs)

    def event(self, job: Job, what: str, at: int) -> Any:
        """Let something happen, and go on as far as it goes; return what can be seen."""
        open_ = [one for one in (*self.waiters, *self.rig.waiters) if not one.told]
        if what == "cancel":
            job.cancel()
        elif open_ and what == "set":
            self.rig.answer(at % 3 + 1, at) if at > 3 else open_[at % len(open_)].set_result(at)
        elif open_ and what == "fail" and at % 2:
            open_[at % len(open_)].cancel()
        while job.can_go:
            job.step()
        return self.seen(job)

    def seen(self, job: Job) -> Any:
        told = job.told[:2] if job.told[1:2] == ("TypeError",) else job.told
        if told[:1] == ("returned",):
            told = (told[0], _told(told[1]))
        return told, _shown(self.log), len(self.waiters), bytes(self.rig.written)


def _told(thing: Any) -> Any:
    """Return what can be compared of a reply, an exception, or anything else."""
    if type(thing).__name__ == "ReplyFields":
        return ("reply", _told(thing.value), thing.packed_metadata, thing.items)
    if isinstance(thing, BaseException):
        kind = type(thing).__name__
        return kind if isinstance(thing, TypeError) else (kind, str(thing))
    return _shown(thing) if isinstance(thing, tuple | list) else thing


def _shown(things: Any) -> Any:
    return type(things)(_told(thing) for thing in things)


def compare(
    what: str, begin: Callable[[Stage], Any], layers: list[Any], answer: int, events: list[Any]
) -> None:
    """Run the same in both twins and compare after each event."""
    stages = [Stage(twin, layers, answer) for twin in both()]
    given = (layers, answer, events)
    begun = [begin(stage) for stage in stages]
    jobs = [job for job, _ in begun]
    agree(what, begun[0][1], begun[1][1], given)
    try:
        if None not in jobs:
            for event in [("step", 0), *events]:
                pure, compiled = (
                    stage.event(job, *event) for stage, job in zip(stages, jobs, strict=True)
                )
                agree(what, pure, compiled, (*given, event))
    finally:
        for job in jobs:
            if job is not None:
                job.close()


@given(layers=LAYERS, events=EVENTS, args=ARGS, timeout=st.sampled_from([0.0, 2.0]))
def test_calls_out(layers: list[Any], events: list[Any], args: list[Any], timeout: float) -> None:
    def begin(stage: Stage) -> Any:
        twin, clock = stage.twin, lambda: 100.0
        sender = twin.Sender(
            [stage.rig.lane], _slow, None, lambda call: b"packed", twin.ReplyFields, clock
        )
        one = twin.ChainCaller(stage.chain, sender, twin.CallFields, timeout, b"", INHERITED, clock)
        call = one.make("A.b", tuple(args), {}, sender)
        try:
            return Job(twin.Pending(stage.chain(call), "A.b")), None
        except Exception as exc:
            return None, _told(exc)

    compare("chains of calls out", begin, layers, 0, events)


async def _slow(call: Any, decode: Any) -> Any:
    raise AssertionError("the lane takes it")


@given(
    layers=LAYERS, events=EVENTS, args=ARGS, answer=st.integers(0, len(VALUES + ERRORS) - 1),
    is_coroutine=st.booleans(), time=st.sampled_from([0, 5000]), flags=st.sampled_from([0, 0x40]),
)  # fmt: skip
def test_calls_in(
    layers: list[Any], events: list[Any], args: list[Any], answer: int, is_coroutine: bool,
    time: int, flags: int,
) -> None:  # fmt: skip
    loop = object()  # nobody asks it for anything

    def begin(stage: Stage) -> Any:
        twin = stage.twin
        kept: list[Any] = []
        steps = SimpleNamespace(
            loop=loop, task=lambda: loop, keep=lambda *rest: kept.append(rest) or "rest"
        )
        at_once = twin.AtOnce(
            stage.later if is_coroutine else stage.handler, is_coroutine, twin.ReplyFields,
            INHERITED, lambda: 100.0,
        )  # fmt: skip
        through = twin.Through(
            "A.b", stage.chain, at_once, twin.CallFields, steps, [], 1, 1,
            lambda millis: 100.0 + millis / 1000, False, INHERITED,
        )  # fmt: skip
        owner = SimpleNamespace(running=[])
        try:
            told = copy_context().run(through, owner, flags, 1, time, b"", args)
        except BaseException as exc:
            return None, ("raised", _told(exc), _shown(stage.log))
        if not kept:
            return None, (_shown(told), _shown(stage.log))
        ((coroutine, waited, context, call),) = kept
        assert waited in stage.waiters
        job = Job(coroutine)
        job.waits = waited
        job._coro.close()
        job._coro = coroutine
        return job, (told, call.is_called, context.get(INHERITED), _shown(stage.log))

    compare("chains of calls in", begin, layers, answer, events)
