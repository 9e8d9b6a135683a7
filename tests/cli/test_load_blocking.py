import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastrpc.cli import load_blocking
from fastrpc.cli.load import LoadOptions, LoadResult, Progress
from fastrpc.cli.load_blocking import ThreadLoad
from fastrpc.errors import ConnectFailed, Overloaded

# Runs are ended by the calls themselves, so a slow machine changes nothing.
LONG: dict[str, Any] = {"duration": 60, "warmup": 0, "grace": 5}
PAUSE = threading.Event()  # never set


class Server:
    """Stands in for a server, and ends the run after some calls."""

    def __init__(self, last: int = 50) -> None:
        self.opened = 0
        self.open = 0
        self.calls = 0
        self.last = last
        self.stop: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    @contextmanager
    def connect(self) -> Iterator[Callable[[], object]]:
        with self._lock:
            self.opened += 1
            self.open += 1
        try:
            yield self.call
        finally:
            with self._lock:
                self.open -= 1

    def call(self) -> None:
        with self._lock:
            self.calls += 1
            number = self.calls
        self.work(number)
        if number >= self.last:
            self.stop()

    def work(self, number: int) -> None:
        PAUSE.wait(0.001)

    def under(self, options: LoadOptions, **more: Any) -> LoadResult:
        run = ThreadLoad(self.connect, options, **more)
        self.stop = run.stop
        return run.run()


def test_each_thread_has_its_connection() -> None:
    server = Server()
    result = server.under(LoadOptions(concurrency=3, **LONG))
    assert (server.opened, server.open) == (3, 0)
    assert 0 < result.latency.count <= server.calls
    assert result.latency.min >= 0.0009
    assert result.calls_per_second > 0
    assert (result.errors, result.unfinished, result.unsent) == ({}, 0, 0)


def test_the_window_ends_by_itself() -> None:
    result = Server(last=10**9).under(LoadOptions(concurrency=2, duration=0.05, warmup=0.01))
    assert 0.04 < result.seconds < 10


def test_failures_are_counted() -> None:
    class Failing(Server):
        def work(self, number: int) -> None:
            if number % 2:
                raise Overloaded("too much to do")

    result = Failing(last=20).under(LoadOptions(concurrency=2, **LONG))
    assert 0 < result.errors["Overloaded"] < 20
    assert result.first_error == "too much to do"
    assert 0 < result.latency.count < 20


def test_no_connection_no_run() -> None:
    @contextmanager
    def connect() -> Iterator[Callable[[], object]]:
        raise ConnectFailed("nobody there")
        yield

    with pytest.raises(ConnectFailed, match="nobody there"):
        ThreadLoad(connect, LoadOptions(concurrency=3, duration=60)).run()


def test_latency_counts_from_the_due_moment() -> None:
    class Stalling(Server):
        def work(self, number: int) -> None:
            if number == 1:
                PAUSE.wait(0.15)

    result = Stalling(last=60).under(LoadOptions(concurrency=1, rate=500, **LONG))
    assert result.latency.percentile(50) > 0.08
    assert result.latency.min > 0.02


def test_what_could_not_be_sent_is_told() -> None:
    class Slow(Server):
        def work(self, number: int) -> None:
            PAUSE.wait(0.02)

    result = Slow(last=5).under(LoadOptions(concurrency=1, rate=1000, **LONG))
    assert result.unsent > 80


def test_calls_that_never_end_are_told() -> None:
    free = threading.Event()

    class Silent(Server):
        def work(self, number: int) -> None:
            if number == 2:
                self.stop()
            free.wait()

    result = Silent().under(LoadOptions(concurrency=2, duration=60, warmup=0, grace=0.02))
    free.set()
    assert result.unfinished == 2


def test_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_blocking, "_SHOW", 0.02)
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.p50:
            server.stop()

    server = Server(last=10**9)
    server.under(LoadOptions(concurrency=2, **LONG), watch=watch)
    assert seen[-1].calls > 0
    assert seen[-1].p50 >= 0.0009
