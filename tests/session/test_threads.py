"""Threads that work, that are bounded, and that end."""

import asyncio
import threading
import time

import pytest

from fastrpc.session.threads import Outcome, Threads


def threads_of(most: int) -> Threads:
    return Threads(asyncio.get_running_loop(), most)


def alive() -> int:
    return sum(thread.name.startswith("fastrpc-handler") for thread in threading.enumerate())


async def all_gone() -> None:
    async with asyncio.timeout(5):
        while alive():
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_no_thread_before_there_is_work_and_one_is_kept() -> None:
    threads = threads_of(4)
    assert alive() == 0
    for number in range(5):
        assert await threads.run(lambda n=number: (n, None)) == (number, None)
        await asyncio.sleep(0)
    assert alive() == 1
    threads.close()
    await all_gone()


@pytest.mark.asyncio
async def test_no_more_threads_than_allowed_and_all_work_is_done() -> None:
    threads, go_on, most = threads_of(3), threading.Event(), 0

    def work() -> Outcome:
        go_on.wait(5)
        return threading.get_ident(), None

    waiting = [threads.run(work) for _ in range(10)]
    most = alive()
    go_on.set()
    names = {ident for ident, _ in await asyncio.gather(*waiting)}
    assert most == 3
    assert len(names) <= 3
    threads.close()
    await all_gone()


@pytest.mark.asyncio
async def test_what_was_not_begun_is_forgotten_at_the_end() -> None:
    threads, go_on, begun = threads_of(1), threading.Event(), []

    def work() -> Outcome:
        begun.append(1)
        go_on.wait(5)
        return "done", None

    first, second = threads.run(work), threads.run(work)
    while not begun:
        await asyncio.sleep(0.001)
    threads.close()
    assert second.cancelled()
    go_on.set()
    assert await first == ("done", None)
    await all_gone()
    assert len(begun) == 1


@pytest.mark.asyncio
async def test_who_gave_up_waiting_is_not_told() -> None:
    threads, go_on = threads_of(1), threading.Event()
    waiting = threads.run(lambda: (go_on.wait(5), None))
    waiting.cancel()
    go_on.set()
    assert await threads.run(lambda: ("next", None)) == ("next", None)
    threads.close()
    await all_gone()


@pytest.mark.asyncio
async def test_threads_never_keep_the_process() -> None:
    threads, go_on = threads_of(1), threading.Event()
    waiting = threads.run(lambda: (go_on.wait(5), None))
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("fastrpc-handler"))
    go_on.set()
    await waiting
    threads.close()
    await all_gone()


def test_a_loop_that_is_gone_is_not_missed() -> None:
    go_on = threading.Event()

    async def leave() -> None:
        threads = threads_of(1)
        threads.run(lambda: (go_on.wait(5), None))
        threads.close()

    asyncio.run(leave())
    go_on.set()
    end = time.monotonic() + 5
    while alive() and time.monotonic() < end:
        time.sleep(0.001)
    assert alive() == 0
