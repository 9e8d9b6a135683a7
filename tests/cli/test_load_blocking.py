import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fastrpc.cli import load_blocking
from fastrpc.cli.load import LoadOptions, Progress
from fastrpc.cli.load_blocking import ThreadLoad
from fastrpc.errors import ConnectFailed, Overloaded


class Server:
    """Stands in for a server and counts its connections."""

    def __init__(self, answer: Callable[[], object] = lambda: None) -> None:
        self.answer = answer
        self.opened = 0
        self.open = 0
        self._lock = threading.Lock()

    @contextmanager
    def connect(self) -> Iterator[Callable[[], object]]:
        with self._lock:
            self.opened += 1
            self.open += 1
        try:
            yield self.answer
        finally:
            with self._lock:
                self.open -= 1


def test_each_thread_has_its_connection() -> None:
    server = Server(lambda: time.sleep(0.001))
    result = ThreadLoad(
        server.connect, LoadOptions(concurrency=3, duration=0.08, warmup=0.02)
    ).run()
    assert server.opened == 3
    assert server.open == 0
    assert result.latency.count > 10
    assert result.latency.min >= 0.0009
    assert result.calls_per_second > 0
    assert (result.errors, result.unfinished, result.unsent) == ({}, 0, 0)


def test_failures_are_counted() -> None:
    numbers = itertools.count()

    def answer() -> None:
        if next(numbers) % 2:
            raise Overloaded("too much to do")

    options = LoadOptions(concurrency=2, duration=0.08, warmup=0)
    result = ThreadLoad(Server(answer).connect, options).run()
    assert result.errors["Overloaded"] > 0
    assert result.first_error == "too much to do"
    assert result.latency.count > 0


def test_no_connection_no_run() -> None:
    @contextmanager
    def connect() -> Iterator[Callable[[], object]]:
        raise ConnectFailed("nobody there")
        yield

    with pytest.raises(ConnectFailed, match="nobody there"):
        ThreadLoad(connect, LoadOptions(concurrency=3, duration=60)).run()


def test_the_rate_is_held_and_latency_counts_from_the_due_moment() -> None:
    stalled = threading.Event()

    def answer() -> None:
        if not stalled.is_set():
            stalled.set()
            time.sleep(0.1)

    options = LoadOptions(concurrency=1, duration=0.2, warmup=0, rate=500)
    result = ThreadLoad(Server(answer).connect, options).run()
    assert result.latency.count <= 102
    assert result.latency.percentile(75) > 0.02


def test_stopping_ends_the_run() -> None:
    options = LoadOptions(concurrency=2, duration=60, warmup=0)
    run = ThreadLoad(Server(lambda: time.sleep(0.001)).connect, options)
    timer = threading.Timer(0.05, run.stop)
    timer.start()
    result = run.run()
    timer.join()
    assert result.seconds < 10
    assert result.latency.count > 0


def test_calls_that_never_end_are_told() -> None:
    free = threading.Event()
    options = LoadOptions(concurrency=2, duration=0.03, warmup=0, grace=0.02)
    result = ThreadLoad(Server(free.wait).connect, options).run()
    free.set()
    assert result.unfinished == 2


def test_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_blocking, "_SHOW", 0.02)
    seen: list[Progress] = []
    options = LoadOptions(concurrency=2, duration=0.15, warmup=0)
    ThreadLoad(Server(lambda: time.sleep(0.001)).connect, options, seen.append).run()
    assert seen
    assert seen[-1].calls > 0
    assert seen[-1].p50 >= 0.0009
