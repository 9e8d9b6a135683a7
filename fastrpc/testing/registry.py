"""Check that a registry behaves as announcers and resolvers rely on.

One suite for every engine: ours in memory, files and over real servers, and anybody's own.

    async def test_my_registry():
        await check_registry(lambda: MyRegistry("10.0.0.5"), expire=kill_its_session)

What an engine can't do is told by what is not given: without `expire` nothing is said about
owners that die, and so on. `registry_checks` names the checks that remain.

Rules of the room:
  * a check looks only at what `Registry` promises, never inside an engine;
  * no check sleeps, and none expects an answer in a certain time, but for a limit;
  * every check has a service of its own, so a store may be used for all, again and again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from fastrpc.cluster import Gone, Instance, InstanceState, Listing, Put, Registry
from fastrpc.cluster.instance import encode_instance
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.lookout import Expire, Fill, Make, Poison, RegistryBench
from fastrpc.testing.watch import expect

#: Seconds after which a check that waits has failed.
PATIENCE: Final = 20.0

#: Loop steps after which a call is cancelled, each of them tried.
_STEPS: Final = 16

#: Instances that come at once.
_MANY: Final = 200

_ODD_IDS: Final = (".", "..", "-", "~.~", "0", "A", "a", "x" * 128)

_RICH: Final = Instance(
    id="rich-1",
    addresses=("tcp://10.0.0.1:7000", "unix:///run/rich.sock"),
    weight=2.5,
    zone="eu-1",
    version="2.1",
    group="blue",
    tags=(("colour", "grün"), ("rack", "12 b")),
    state=InstanceState.DRAINING,
)


def _instance(id: str, weight: float = 1.0) -> Instance:
    return Instance(id=id, addresses=("tcp://127.0.0.1:7000",), weight=weight)


async def _has(registry: Registry, service: str, *instances: Instance) -> None:
    listing = await registry.list(service)
    found = {each.id: each for each in listing.instances}
    expect(len(found) == len(listing.instances), f"an id stands in {listing} twice")
    wanted = {each.id: each for each in instances}
    expect(found == wanted, f"listed {list(found.values())}, not {list(wanted.values())}")
    expect(not listing.skipped, f"skipped {listing.skipped} entries, and all can be read")


async def _read(bench: RegistryBench) -> None:
    """What is listed is what a watch begins with."""
    registry = bench.owner()
    listing = await registry.list(bench.service)
    lookout = bench.lookout(registry)
    await lookout.until_begun()
    expect(lookout.known == {each.id: each for each in listing.instances}, "watched others")
    await _has(registry, bench.service, *listing.instances)
    services = await registry.services()
    expect(services == tuple(sorted(set(services))), f"services() gave {services}")
    expect(bench.service in services or not listing.instances, f"services() gave {services}")


async def _close(bench: RegistryBench) -> None:
    """`aclose` may come before anything else, twice, and ends every watch."""
    unused = bench.owner()
    await unused.aclose()
    await unused.aclose()
    registry = bench.owner()
    watch = registry.watch(bench.service)
    await anext(aiter(watch))
    rest = asyncio.ensure_future(anext(aiter(watch), None))
    await asyncio.sleep(0)
    await registry.aclose()
    await asyncio.wait([rest])
    with contextlib.suppress(RegistryLost):
        expect(rest.result() is None, f"a closed registry told {rest}")
    await registry.aclose()


async def _cancelled_watch(bench: RegistryBench) -> None:
    """A watch cancelled at any step leaves nothing behind, and others go on."""
    registry = bench.owner()
    stays = bench.lookout(registry)
    await stays.until_begun()
    for steps in range(_STEPS):
        lookout = bench.lookout(registry)
        for _ in range(steps):
            await asyncio.sleep(0)
        await lookout.aclose()
    expect(stays.ended is None and not stays.lost, "another watch ended, too")
    await registry.list(bench.service)


async def _refuse(bench: RegistryBench) -> None:
    """Whoever can't be published to says so for good; who can refuses what is too long."""
    registry = bench.owner()
    instance = _instance("refused")
    if registry.can_publish:
        tags = tuple((f"tag{number}", "x" * 400) for number in range(30))
        instance = replace(instance, tags=tags)
    try:
        await registry.publish(bench.service, instance)
    except ConfigError as error:
        expect(str(error), "the ConfigError has no text")
    else:
        raise AssertionError("publish did not raise ConfigError")


async def _publish(bench: RegistryBench) -> None:
    """What is published is listed, whole, by everybody; what is not, is not."""
    one, two = bench.owner(), bench.owner()
    await _has(two, bench.service)
    await one.publish(bench.service, _RICH)
    await _has(one, bench.service, _RICH)
    await _has(two, bench.service, _RICH)
    await two.publish(bench.service, _instance("plain"))
    await _has(one, bench.service, _RICH, _instance("plain"))


async def _renew(bench: RegistryBench) -> None:
    """`publish` again is the renewal: one entry, and nothing to tell."""
    registry, other = bench.owner(), bench.owner()
    lookout = bench.lookout(other)
    await lookout.until_begun()
    for _ in range(5):
        await registry.publish(bench.service, _instance("one"))
    await registry.publish(bench.service, _instance("last"))
    await lookout.until_known(_instance("one"), _instance("last"))
    expect(len(lookout.of("one")) <= 1, f"renewals were told: {lookout.of('one')}")
    await _has(other, bench.service, _instance("one"), _instance("last"))


async def _replace(bench: RegistryBench) -> None:
    """What another owner left under an id is replaced, and is not the other's any more."""
    before, after = bench.owner(), bench.owner()
    lookout = bench.lookout(bench.owner())
    await before.publish(bench.service, _instance("same", 1))
    await lookout.until_known(_instance("same", 1))
    await after.publish(bench.service, _instance("same", 2))
    await lookout.until_known(_instance("same", 2))
    await before.withdraw(bench.service, "same")
    await _has(before, bench.service, _instance("same", 2))
    await after.publish(bench.service, _instance("same", 3))
    await after.withdraw(bench.service, "same")
    await lookout.until_known()
    await _has(before, bench.service)


async def _replaced_alike(bench: RegistryBench) -> None:
    """An entry that says the same already still becomes ours."""
    before, after = bench.owner(), bench.owner()
    await before.publish(bench.service, _instance("same"))
    await after.publish(bench.service, _instance("same"))
    await before.withdraw(bench.service, "same")
    await _has(before, bench.service, _instance("same"))
    await after.withdraw(bench.service, "same")
    await _has(before, bench.service)


async def _withdraw(bench: RegistryBench) -> None:
    """`withdraw` takes one entry of ours; what is not there or not ours is left alone."""
    registry, other = bench.owner(), bench.owner()
    await registry.withdraw(bench.other(), "nobody")
    await registry.publish(bench.service, _instance("one"))
    await registry.publish(bench.service, _instance("two"))
    await other.publish(bench.service, _instance("theirs"))
    await registry.withdraw(bench.service, "nobody")
    await registry.withdraw(bench.service, "theirs")
    await registry.withdraw(bench.service, "one")
    await registry.withdraw(bench.service, "one")
    await _has(other, bench.service, _instance("two"), _instance("theirs"))
    await registry.publish(bench.service, _instance("one"))
    await _has(other, bench.service, _instance("one"), _instance("two"), _instance("theirs"))


async def _order(bench: RegistryBench) -> None:
    """A watch tells what changes, in order."""
    registry = bench.owner()
    first = _instance("first")
    await registry.publish(bench.service, first)
    lookout = bench.lookout(bench.owner())
    await lookout.until_known(first)
    heavy = [_instance("moving", weight) for weight in range(1, 21)]
    for instance in heavy:
        await registry.publish(bench.service, instance)
    draining = heavy[-1].with_state(InstanceState.DRAINING)
    await registry.publish(bench.service, draining)
    await lookout.until_known(first, draining)
    await registry.withdraw(bench.service, "moving")
    await lookout.until_known(first)
    told = lookout.of("moving")
    wanted = [*map(Put, heavy), Put(draining), Gone("moving"), Gone("moving", True)]
    places = [wanted.index(change) if change in wanted else -1 for change in told]
    expect(places == sorted(places) and -1 not in places, f"told out of order: {told}")
    # Of two listings each may stand for what was between.
    relisted = sum(isinstance(change, Listing) for change in lookout.changes) > 1
    expect(bench.is_polled or relisted or len(told) == 22, f"told {len(told)} of 22 changes")


async def _nothing_missed(bench: RegistryBench) -> None:
    """What changes while a watch begins is not lost between its listing and the rest."""
    registry, other = bench.owner(), bench.owner()
    lookouts = []
    for number in range(20):
        lookouts.append(bench.lookout(other))
        for _ in range(number % 7):  # so many steps before it
            await asyncio.sleep(0)
        await registry.publish(bench.service, _instance(f"n{number}"))
    there = [_instance(f"n{number}") for number in range(20)]
    for lookout in lookouts:
        await lookout.until_known(*there)


async def _two_lookouts(bench: RegistryBench) -> None:
    """Watches are apart: each is told everything, and the end of one is nobody else's."""
    registry = bench.owner()
    one, two, far = bench.lookout(registry), bench.lookout(registry), bench.lookout(bench.owner())
    await registry.publish(bench.service, _instance("a"))
    for lookout in (one, two, far):
        await lookout.until_known(_instance("a"))
    await one.aclose()
    await registry.publish(bench.service, _instance("b"))
    for lookout in (two, far):
        await lookout.until_known(_instance("a"), _instance("b"))
    expect("b" not in one.known, "a cancelled watch was told")
    expect(not two.lost and not far.lost, "another watch ended, too")


async def _services(bench: RegistryBench) -> None:
    """Services don't mix, however alike their names, and those without instances are none."""
    registry, other = bench.owner(), bench.owner()
    base = bench.service
    names = [base, f"{base}0", f"{base}.x", f"{base}-", base.upper(), base[:-1]]
    lookouts = [bench.lookout(other, name) for name in names]
    for number, name in enumerate(names):
        await registry.publish(name, _instance("same-id", number + 1))
    found = await other.services()
    expect(found == tuple(sorted(set(found))), f"services() gave {found}")
    expect(set(names) <= set(found), f"services() gave {found}, published were {names}")
    for number, name in enumerate(names):
        await _has(other, name, _instance("same-id", number + 1))
        await lookouts[number].until_known(_instance("same-id", number + 1))
    for name in names[1:]:
        await registry.withdraw(name, "same-id")
    found = await other.services()
    expect(base in found and not set(names[1:]) & set(found), f"services() gave {found}")
    await _has(other, base, _instance("same-id", 1))


async def _odd_ids(bench: RegistryBench) -> None:
    """Every id that an instance may have is kept as it is."""
    registry = bench.owner()
    lookout = bench.lookout(registry)
    wanted = [_instance(id) for id in _ODD_IDS]
    for instance in wanted:
        await registry.publish(bench.service, instance)
    await _has(registry, bench.service, *wanted)
    await lookout.until_known(*wanted)
    for id in _ODD_IDS[1:]:
        await registry.withdraw(bench.service, id)
    await lookout.until_known(wanted[0])


async def _many(bench: RegistryBench) -> None:
    """Many instances come at once, and are all there."""
    owners = [bench.owner(), bench.owner()]
    lookout = bench.lookout(owners[0])
    wanted = [_instance(f"m{number:03}") for number in range(_MANY)]
    async with asyncio.TaskGroup() as group:
        for number, instance in enumerate(wanted):
            group.create_task(owners[number % 2].publish(bench.service, instance))
    await _has(owners[1], bench.service, *wanted)
    await lookout.until_known(*wanted)


async def _cancelled_calls(bench: RegistryBench) -> None:
    """A call cancelled at any step leaves the registry usable, and one entry at most."""
    registry, other = bench.owner(), bench.owner()
    instance = _instance("one")

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: registry.publish(bench.service, instance),
        lambda: registry.list(bench.service),
        lambda: registry.services(),
        lambda: registry.withdraw(bench.service, "one"),
    ]
    for call in calls:
        for steps in range(_STEPS):
            task = asyncio.ensure_future(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        await registry.publish(bench.service, instance)
        await _has(other, bench.service, instance)
    await registry.withdraw(bench.service, "one")
    await _has(other, bench.service)


async def _expire(bench: RegistryBench) -> None:
    """What an owner that died has left goes away, not as if it was withdrawn."""
    dead, alive = bench.owner(), bench.owner()
    lookout = bench.lookout(alive)
    await dead.publish(bench.service, _instance("dead"))
    await alive.publish(bench.service, _instance("alive"))
    await lookout.until_known(_instance("dead"), _instance("alive"))
    await bench.expire(dead)
    await lookout.until_known(_instance("alive"))
    explicit = [each for each in lookout.of("dead") if isinstance(each, Gone) and each.is_explicit]
    expect(not explicit, "an entry expired, and was told to be withdrawn")
    await _has(alive, bench.service, _instance("alive"))


async def _expired_before(bench: RegistryBench) -> None:
    """The end of an owner takes nothing away that has another one by now."""
    before, after = bench.owner(), bench.owner()
    lookout = bench.lookout(after)
    await before.publish(bench.service, _instance("same"))
    await before.publish(bench.service, _instance("only"))
    await after.publish(bench.service, _instance("same"))
    await lookout.until_known(_instance("same"), _instance("only"))
    await bench.expire(before)
    await lookout.until_known(_instance("same"))
    await after.publish(bench.service, _instance("same"))
    await _has(after, bench.service, _instance("same"))
    expect(len(lookout.of("same")) <= 1, f"told of the one that stayed: {lookout.of('same')}")


async def _lost(bench: RegistryBench) -> None:
    """An owner whose entries expired under it learns of it, and `publish` makes them anew."""
    registry, other = bench.owner(), bench.owner()
    lookout = bench.lookout(other)
    count = late = 0
    for turn in range(3):
        lost = asyncio.ensure_future(registry.wait_lost(count))
        await bench.publish(registry, _instance("one", turn + 1))
        await bench.publish(registry, _instance("two", turn + 1))
        await lookout.until_known(_instance("one", turn + 1), _instance("two", turn + 1))
        expect(not lost.done(), "lost, and nothing had happened")
        await bench.expire(registry)
        if bench.has_session:
            count = await lost
            late = await registry.wait_lost(late)  # a second one, who was busy meanwhile
        lost.cancel()
        await asyncio.wait([lost])
    await bench.publish(registry, _instance("one"))
    await bench.publish(registry, _instance("two"))
    await lookout.until_known(_instance("one"), _instance("two"))
    await registry.withdraw(bench.service, "one")
    await _has(other, bench.service, _instance("two"))


async def _poisoned(bench: RegistryBench) -> None:
    """An entry that can't be read is skipped and counted, and hides no other."""
    registry = bench.owner()
    good = _instance("good")
    await registry.publish(bench.service, good)
    lookout = bench.lookout(registry)
    await lookout.until_known(good)
    wrong = [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"id": "p3", "addresses": []}',
        b'{"id": "p4", "addresses": ["tcp://"]}',
        encode_instance(_instance("another-id")),
        encode_instance(_instance("p6")).replace(b"1.0", b"1e999"),
        b"[" * 3000,
    ]
    for number, text in enumerate(wrong):
        await bench.poison(f"p{number}", text)
    listing = await registry.list(bench.service)
    expect(listing.instances == (good,), f"listed {listing.instances}")
    expect(listing.skipped == len(wrong), f"skipped {listing.skipped} of {len(wrong)}")
    late = bench.lookout(registry)
    await late.until_known(good)
    expect(late.skipped == len(wrong), f"a watch skipped {late.skipped} of {len(wrong)}")
    # Whoever has the id by right mends it.
    await registry.publish(bench.service, _instance("p1"))
    for each in (lookout, late):
        await each.until_known(good, _instance("p1"))
    listing = await registry.list(bench.service)
    expect(listing.skipped == len(wrong) - 1, f"skipped {listing.skipped} after one was mended")


async def _filled(bench: RegistryBench) -> None:
    """What is written by others is listed, and its changes are told."""
    registry = bench.owner()
    one, two = _instance("one"), _instance("two")
    await bench.fill(_RICH, one)
    await _has(registry, bench.service, _RICH, one)
    lookout = bench.lookout(registry)
    await lookout.until_known(_RICH, one)
    for there in ((_RICH, one, two), (replace(one, weight=7), two), (two,), (), (one,)):
        await bench.fill(*there)
        await lookout.until_known(*there)
    await _has(bench.owner(), bench.service, one)


_Check = Callable[[RegistryBench], Awaitable[None]]

_CHECKS: Final[dict[str, tuple[_Check, str]]] = {
    check.__name__[1:]: (check, need)
    for need, checks in {
        "": (_read, _close, _cancelled_watch, _refuse),
        "publish": (
            _publish,
            _renew,
            _replace,
            _replaced_alike,
            _withdraw,
            _order,
            _nothing_missed,
            _two_lookouts,
            _services,
            _odd_ids,
            _many,
            _cancelled_calls,
        ),
        "expire": (_expire, _expired_before, _lost),
        "poison": (_poisoned,),
        "fill": (_filled,),
    }.items()
    for check in checks
}


def registry_checks(*abilities: str) -> tuple[str, ...]:
    """Return the names of the checks for a registry with *abilities*.

    Args:
        abilities: Of "publish", "expire", "poison", "fill".
    """
    return tuple(name for name, (_, need) in _CHECKS.items() if not need or need in abilities)


async def check_registry(
    make: Make,
    *,
    only: str = "",
    service: str = "",
    expire: Expire | None = None,
    poison: Poison | None = None,
    fill: Fill | None = None,
    has_session: bool = True,
    is_polled: bool = False,
    patience: float = PATIENCE,
) -> None:
    """Run the checks against the registries that *make* gives.

    Args:
        make: Gives another owner on the same store each time.
        only: One name of `registry_checks`; all that can be run by default.
        service: What to list and watch in a registry that has one set of instances for
            all; by default each check has a service of its own.
        expire: Makes expire what a registry has published, as if its owner had died.
        poison: Writes bytes where an entry would be.
        fill: Makes instances be there, in a registry that can't be published to.
        has_session: Whether `wait_lost` tells of entries that expired; else `publish` alone
            finds it out.
        is_polled: Whether of changes that follow each other closely some are not told.
        patience: Seconds after which a check that waits has failed.

    Raises:
        AssertionError: A check failed; the message names it and says how.
    """
    given = {"publish": make().can_publish, "expire": expire, "poison": poison, "fill": fill}
    abilities = [name for name, is_given in given.items() if is_given]
    names = registry_checks(*abilities)
    if only and only not in names:
        raise AssertionError(f"{only} needs {_CHECKS[only][1]}, and this registry has none")
    for name in [only] if only else names:
        bench = RegistryBench(make, service, expire, poison, fill, has_session, is_polled)
        try:
            async with asyncio.timeout(patience), bench:
                await _CHECKS[name][0](bench)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        except TimeoutError as error:
            raise AssertionError(f"{name}: waited {patience} s") from error
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
