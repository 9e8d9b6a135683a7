"""`fastrpc top`: what goes on, on a server or in a cluster, second by second?"""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fastrpc.cli import loops, screen
from fastrpc.cli.follow import Follower, following
from fastrpc.cli.keys import keys
from fastrpc.cli.options import (
    CLUSTER_HELP,
    TARGET_HELP,
    Words,
    epilog,
    given,
    json_option,
    metadata_option,
    paragraphs,
    target_argument,
    way_there,
)
from fastrpc.cli.rates import SORTS, View
from fastrpc.cli.topview import QUIT_KEYS, SORT_KEYS, Frame, draw, to_dict
from fastrpc.cli.values import parse_pairs
from fastrpc.cluster import is_cluster

HELP = paragraphs(
    "Show what goes on, on a server or on all instances of a service: calls and errors a "
    "second, percentiles, calls in flight, by method and by instance.",
    "Each instance is asked once in an interval, by one small call past every balancer. "
    "Instances that come and go are followed. Rates are of the last interval, percentiles of the "
    "last ten. Q or Ctrl-C ends it; without a terminal it prints one view after the other.",
    "Exit code 0; 3 if the registry, or the one server, can't be reached at the start, and with "
    "--once if nobody answers.",
    TARGET_HELP,
    CLUSTER_HELP,
)
EPILOG = epilog(
    "fastrpc top 127.0.0.1:7000",
    "fastrpc top registry://127.0.0.1:7070/Shop",
    "fastrpc top registry://127.0.0.1:7070/Shop --sort p99 --interval 5",
    "fastrpc top registry://127.0.0.1:7070/Shop --once",
    "fastrpc top 127.0.0.1:7000 --json | jq .calls_per_second",
)

#: Seconds that an instance has to answer, or an interval if that is longer.
PATIENCE: Final = 3.0

#: Most seconds of an interval in which answers are waited for; who is late is shown as late.
WAIT: Final = 0.5

#: Intervals that the graph shows.
PAST: Final = 60


@final
@dataclass(slots=True)
class _Shown:
    """What the person in front of it has chosen."""

    sort: str
    stop: asyncio.Event
    redraw: Callable[[], None] = lambda: None

    def pressed(self, key: str) -> None:
        """Do what a key means."""
        if key in QUIT_KEYS:
            self.stop.set()
        elif key.lower() in SORT_KEYS:
            self.sort = SORT_KEYS[key.lower()]
            self.redraw()


@click.command(help=HELP, epilog=EPILOG)
@target_argument
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two questions to each instance.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="calls",
    show_default=True,
    help="What comes first: the keys c, e, p, f and n change it.",
)
@click.option("--once", is_flag=True, help="Print one view, of one interval, and end.")
@click.option(
    "--methods",
    type=click.IntRange(1, 63),
    default=20,
    show_default=True,
    help="Most methods to ask each instance about: those that were called most.",
)
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Most instances to follow.",
)
@metadata_option
@json_option("Print one line for each interval.")
def top(
    target: str,
    interval: float,
    sort: str,
    once: bool,
    methods: int,
    instances: int,
    metadata: Words,
    as_json: bool,
) -> None:
    """Show what goes on."""
    settings = {**way_there(), **given(metadata=parse_pairs(metadata, "--metadata"))}
    follower = Follower(settings, methods=methods, patience=max(PATIENCE, interval), most=instances)
    console = screen.results()
    is_well = True
    with screen.failures_told(as_json=as_json), contextlib.suppress(KeyboardInterrupt):
        if as_json:
            show: Show = _lines(target)
        elif once or not console.is_terminal:
            show = _pages(console, target, interval)
        else:
            show = _live(console, target, interval)
        is_well = loops.run(_watch(target, follower, interval, sort, show, once=once))
    if not is_well:
        raise click.exceptions.Exit(3)


#: Opens what views are given to: a function of a view and the chosen order.
Show = Callable[["_Shown"], contextlib.AbstractContextManager[Callable[[View], None]]]


async def _watch(
    target: str, follower: Follower, interval: float, sort: str, show: Show, *, once: bool
) -> bool:
    """Follow until told to stop; return whether anybody answered at last."""
    loop = asyncio.get_running_loop()
    shown = _Shown(sort, asyncio.Event())
    async with following(target, follower):
        loop.add_signal_handler(signal.SIGTERM, shown.stop.set)  # the terminal is given back
        try:
            due = loop.time() + interval
            await follower.round(PATIENCE if once else min(PATIENCE, 2 * interval))
            if not is_cluster(target) and follower.failure is not None:
                raise follower.failure
            with show(shown) as take:
                if not once:
                    take(follower.view())
                while await _rest(shown.stop, due):
                    due = max(due + interval, loop.time())
                    await follower.round(PATIENCE if once else min(WAIT, interval / 2))
                    take(follower.view())
                    if once:
                        break
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        return bool(follower.view().answered) or not once


async def _rest(stop: asyncio.Event, until: float) -> bool:
    """Wait until that time; False if it was told to stop."""
    try:
        async with asyncio.timeout_at(until):
            await stop.wait()
    except TimeoutError:
        return True
    return False


def _lines(target: str) -> Show:
    @contextlib.contextmanager
    def show(shown: _Shown) -> Iterator[Callable[[View], None]]:
        # Before anything has happened there is nothing to tell.
        yield lambda view: screen.write_json(to_dict(target, view)) if _is_known(view) else None

    return show


def _pages(console: Console, target: str, interval: float) -> Show:
    @contextlib.contextmanager
    def show(shown: _Shown) -> Iterator[Callable[[View], None]]:
        count = 0

        def take(view: View) -> None:
            nonlocal count
            if not _is_known(view):
                return
            frame = Frame(target, shown.sort, screen.width_of(console), interval=interval)
            lines = draw(view, frame)
            screen.write_lines(console, [Text(), *lines] if count else lines)
            console.file.flush()
            count += 1

        yield take

    return show


def _is_known(view: View) -> bool:
    """Say whether there are rates, or nobody who could have any."""
    return any(each.figures for each in view.instances) or not view.answered


def _live(console: Console, target: str, interval: float) -> Show:
    @contextlib.contextmanager
    def show(shown: _Shown) -> Iterator[Callable[[View], None]]:
        past: deque[float] = deque(maxlen=PAST)
        last: list[View] = []
        with (
            _gone(console),
            keys(shown.pressed) as has_keys,
            Live(console=console, auto_refresh=False, screen=True) as live,
        ):

            def redraw() -> None:
                frame = Frame(
                    target, shown.sort, console.width, console.height, interval, has_keys,
                    tuple(past) if screen.has_blocks(console) else (),
                )  # fmt: skip
                live.update(Group(*draw(last[-1], frame)), refresh=True)

            def take(view: View) -> None:
                if not console.is_terminal:  # it was closed: nobody looks any more
                    shown.stop.set()
                last[:] = [view]
                if _is_known(view):
                    past.append(view.total.calls)
                redraw()

            shown.redraw = redraw
            yield take

    return show


@contextlib.contextmanager
def _gone(console: Console) -> Iterator[None]:
    """Let it be no error that nothing can be written to a terminal that was closed."""
    try:
        yield
    except OSError:
        if console.is_terminal:
            raise
