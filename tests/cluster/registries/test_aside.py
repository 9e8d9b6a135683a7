import asyncio
import threading

import pytest

from fastrpc.cluster.registries.aside import Aside


class Question:
    """One that waits for the test."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.failure: Exception | None = None

    def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        return number


@pytest.mark.asyncio
async def test_who_asks_while_it_is_open_shares_the_answer() -> None:
    question = Question()
    aside = Aside(question, "oracle")
    asking = [asyncio.ensure_future(aside.ask(10)) for _ in range(5)]
    await asyncio.sleep(0)
    assert aside.is_open
    question.gate.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert await aside.ask(10) == 2
    assert not aside.is_open
    assert question.threads == {"oracle"}


@pytest.mark.asyncio
async def test_one_that_hangs_takes_one_thread_and_nobody_with_it() -> None:
    question = Question()
    aside = Aside(question, "oracle")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await aside.ask(0.001)
    given_up = asyncio.ensure_future(aside.ask(10))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert given_up.cancelled()
    assert question.asked == 1
    # The loop's own threads are all free.
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(50))) == [0] * 50
    question.gate.set()
    assert await aside.ask(10) == 1


@pytest.mark.asyncio
async def test_a_failure_is_everybodys_and_the_next_question_is_a_new_one() -> None:
    question = Question()
    question.failure = OSError("no")
    aside = Aside(question, "oracle")
    asking = [asyncio.ensure_future(aside.ask(10)) for _ in range(2)]
    await asyncio.sleep(0)
    question.gate.set()
    await asyncio.wait(asking)
    assert [str(each.exception()) for each in asking] == ["no", "no"]
    question.failure = None
    assert await aside.ask(10) == 2


def test_an_answer_that_comes_after_the_loop_is_lost_quietly() -> None:
    question = Question()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await Aside(question, "oracle").ask(0.001)

    asyncio.run(give_up())
    question.gate.set()
    for thread in threading.enumerate():
        if thread.name == "oracle":
            thread.join(10)
    assert "oracle" not in {thread.name for thread in threading.enumerate()}
