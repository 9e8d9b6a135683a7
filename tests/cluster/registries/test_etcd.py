"""The registry over a real etcd: it conforms, and comes back from what etcds do to it."""

import asyncio
import contextlib
import itertools
import shutil
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from fastrpc.cluster import (
    Gone,
    Instance,
    InstanceState,
    Listing,
    Put,
    Registry,
    open_registry,
    parse_cluster,
)
from fastrpc.cluster.registries import etcd_reader
from fastrpc.cluster.registries.etcd import EtcdRegistry
from fastrpc.errors import RegistryLost
from fastrpc.testing.lookout import Lookout
from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.engines.etcd_server import Etcd, EtcdCluster, one_etcd
from tests.cluster.engines.fake_etcd import Answer, FakeEtcd, problem

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))
TWO = replace(ONE, id="two")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with one_etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def service() -> str:
    """Give a name that no other test has used: the module's etcd is one for all."""
    return f"Arith-{uuid.uuid4().hex}"


def registry_at(places: str, ttl: float = 2, login: str = "") -> EtcdRegistry:
    return EtcdRegistry(parse_cluster(f"etcd://{login}{places}"), ttl=ttl)


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("check", registry_checks("publish", "expire", "poison"))
async def test_etcd_conforms(check: str, etcd: Etcd) -> None:
    async def expire(registry: Registry) -> None:
        assert isinstance(registry, EtcdRegistry)
        await asyncio.to_thread(etcd.revoke, registry.lease)

    async def poison(service: str, id: str, text: bytes) -> None:
        await asyncio.to_thread(etcd.put, f"/fastrpc/{service}/{id}", text)

    # What is lost is told at the next renewal, which should be soon; nothing else waits for it.
    ttl = 2 if check == "lost" else 15
    await check_registry(
        lambda: registry_at(etcd.place, ttl), only=check, expire=expire, poison=poison
    )


async def until(registry: Registry, *wanted: Instance, service: str = "Arith") -> None:
    """Wait until exactly these are listed, asking again and again."""
    while True:
        with contextlib.suppress(RegistryLost):
            if set((await registry.list(service)).instances) == set(wanted):
                return
        await asyncio.sleep(0.02)


async def state(registry: Registry, service: str, instance: Instance = ONE) -> None:
    """Publish as an announcer does: until it is done."""
    while True:
        try:
            return await registry.publish(service, instance)
        except RegistryLost:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def closing(*registries: EtcdRegistry) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for registry in registries:
            await registry.aclose()


async def lookout_on(registry: Registry, service: str) -> Lookout:
    lookout = Lookout(registry, service)
    await lookout.until_begun()
    return lookout


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_a_hundred_leases_that_end_are_a_hundred_entries_made_again(
    etcd: Etcd, service: str
) -> None:
    registry, other = registry_at(etcd.place), registry_at(etcd.place)
    async with closing(registry, other):
        leases = set()
        lookout = await lookout_on(other, service)
        for _ in range(100):
            await registry.publish(service, ONE)
            leases.add(registry.lease)
            await asyncio.to_thread(etcd.revoke, registry.lease)
        await registry.publish(service, ONE)
        assert (await other.list(service)).instances == (ONE,)
        await lookout.until(lambda: len(lookout.of("one")) == 201, "100 times gone")
        assert len(leases) == 100
        assert lookout.known == {"one": ONE}
        assert lookout.problems == []
        await lookout.aclose()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.slow
async def test_renewals_keep_an_entry_that_nobody_states_again(etcd: Etcd, service: str) -> None:
    registry, other = registry_at(etcd.place, ttl=1), registry_at(etcd.place)
    async with closing(registry, other):
        await registry.publish(service, ONE)
        lease = registry.lease
        lookout = await lookout_on(other, service)
        await asyncio.sleep(2 * registry.ttl)
        assert (lookout.known, lookout.of("one")) == ({"one": ONE}, [])
        assert registry.lease == lease
        await registry.aclose()
        await lookout.until_known()
        assert lookout.of("one") == [Gone("one", is_explicit=False)]
        await lookout.aclose()


@pytest.mark.asyncio
async def test_time_granted_is_read_back(etcd: Etcd, service: str) -> None:
    registry = registry_at(etcd.place, ttl=1.5)
    async with closing(registry):
        assert registry.ttl == 2
        await registry.publish(service, ONE)
        question = {"ID": registry.lease}
        granted = await asyncio.to_thread(etcd.ask, "lease/timetolive", question)
        assert registry.ttl == int(granted["grantedTTL"])


@pytest.mark.asyncio
async def test_last_entry_takes_its_lease_with_it(etcd: Etcd, service: str) -> None:
    registry = registry_at(etcd.place)
    async with closing(registry):
        await registry.publish(service, ONE)
        await registry.publish(service, TWO)
        lease = registry.lease
        await registry.withdraw(service, "one")
        assert registry.lease == lease
        await registry.withdraw(service, "two")
        assert registry.lease == 0
        left = await asyncio.to_thread(etcd.ask, "lease/leases", {})
        assert str(lease) not in [each["ID"] for each in left.get("leases", [])]


@pytest.mark.asyncio
async def test_who_says_goodbye_is_gone_explicitly(etcd: Etcd, service: str) -> None:
    registry, other = registry_at(etcd.place), registry_at(etcd.place)
    async with closing(registry, other):
        lookout = await lookout_on(other, service)
        draining = ONE.with_state(InstanceState.DRAINING)
        for instance in (ONE, draining):
            await registry.publish(service, instance)
        await registry.withdraw(service, "one")
        await lookout.until(lambda: len(lookout.of("one")) == 3, "its end")
        assert lookout.of("one") == [Put(ONE), Put(draining), Gone("one", is_explicit=True)]
        await lookout.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_entries_too_long_for_an_answer_hide_no_other(etcd: Etcd, service: str) -> None:
    registry = registry_at(etcd.place, ttl=10)
    async with closing(registry):
        lookout = await lookout_on(registry, service)
        await registry.publish(service, ONE)
        for number in range(5):
            key = f"/fastrpc/{service}/{number}"
            await asyncio.to_thread(etcd.put, key, b"x" * 1_400_000)
        await registry.publish(service, TWO)
        await lookout.until_known(ONE, TWO)
        assert await registry.list(service) == Listing((ONE, TWO), skipped=5)
        assert service in await registry.services()
        await lookout.aclose()


@pytest.mark.asyncio
async def test_prefixes_do_not_mix(etcd: Etcd) -> None:
    texts = ("", "/prod/", "/prod/eu/", "/prod-eu/")
    registries = [
        EtcdRegistry(parse_cluster(f"etcd://{etcd.place}{text}Prefix"), ttl=5)
        if text
        else registry_at(etcd.place)
        for text in texts
    ]
    async with closing(*registries):
        for number, registry in enumerate(registries, 1):
            await registry.publish("Prefix", replace(ONE, weight=number))
        for number, registry in enumerate(registries, 1):
            assert (await registry.list("Prefix")).instances == (replace(ONE, weight=number),)
        assert await registries[1].services() == ("Prefix",)


@pytest.mark.asyncio
async def test_services_of_many_pages_are_all_told(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_reader, "_NAMES_PAGE", 3)
    registry = EtcdRegistry(parse_cluster(f"etcd://{etcd.place}/pages/X"), ttl=5)
    async with closing(registry):
        wanted = {f"S{number}": [f"i{each}" for each in range(number)] for number in range(1, 8)}
        for service, ids in wanted.items():
            for id in ids:
                await registry.publish(service, replace(ONE, id=id))
        await asyncio.to_thread(etcd.put, "/pages/deep/er/one", b"x")
        await asyncio.to_thread(etcd.put, "/pages/-no/one", b"x")
        assert await registry.services() == tuple(sorted(wanted))


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_killed_etcd_comes_back_and_everything_goes_on(tmp_path: Path) -> None:
    with one_etcd(tmp_path) as etcd:
        registry, other = registry_at(etcd.place), registry_at(etcd.place)
        async with closing(registry, other):
            await registry.publish("Arith", ONE)
            watch = other.watch("Arith")
            assert await anext(watch) == Listing((ONE,))
            etcd.kill()
            with pytest.raises(RegistryLost, match=etcd.place):
                await anext(watch)
            for call in (registry.publish("Arith", ONE), other.list("Arith"), other.services()):
                with pytest.raises(RegistryLost, match=etcd.place):
                    await call
            # Silence for half of its time: the owner is told, though nobody stated anything.
            await registry.wait_lost()
            etcd.start()
            await asyncio.to_thread(etcd.wait_ready)
            await state(registry, "Arith")
            lookout = await lookout_on(other, "Arith")
            await state(registry, "Arith", TWO)
            await lookout.until_known(ONE, TWO)
            await lookout.aclose()
            assert await asyncio.to_thread(etcd.keys, "/fastrpc/Arith/") == [
                "/fastrpc/Arith/one",
                "/fastrpc/Arith/two",
            ]


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.slow
async def test_etcd_that_lost_everything_is_filled_again(tmp_path: Path) -> None:
    with one_etcd(tmp_path) as etcd:
        registry, other = registry_at(etcd.place), registry_at(etcd.place)
        async with closing(registry, other):
            for weight in range(1, 11):
                await registry.publish("Arith", replace(ONE, weight=weight))
            lookout = await lookout_on(other, "Arith")
            etcd.kill()
            shutil.rmtree(etcd.data)
            etcd.start()
            await asyncio.to_thread(etcd.wait_ready)
            await registry.wait_lost()
            await state(registry, "Arith", TWO)
            await lookout.until_known(TWO)
            await lookout.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_hung_etcd_is_not_waited_for(tmp_path: Path) -> None:
    with one_etcd(tmp_path) as etcd:
        registry, other = registry_at(etcd.place), registry_at(etcd.place)
        async with closing(registry, other):
            await registry.publish("Arith", ONE)
            lookout = await lookout_on(other, "Arith")
            etcd.pause()
            for call in (registry.publish("Arith", TWO), other.list("Arith")):
                with pytest.raises(RegistryLost):
                    await call
            await registry.wait_lost()
            etcd.resume()
            await state(registry, "Arith", TWO)
            await state(registry, "Arith", ONE)
            await lookout.until_known(ONE, TWO)
            await lookout.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_lease_of_a_write_that_may_arrive_late_is_given_up() -> None:
    async with FakeEtcd() as fake:
        leases = itertools.count(7)
        fake.answers["lease/grant"] = lambda question: {"ID": str(next(leases)), "TTL": "10"}
        fake.answers["lease/keepalive"] = lambda question: {"result": {"TTL": "10"}}
        fake.answers["kv/range"] = lambda question: {}
        fake.answers["kv/txn"] = lambda question: {"succeeded": True}
        registry = registry_at(fake.place, ttl=1)
        async with closing(registry):
            await registry.publish("Arith", TWO)
            fake.answers["kv/txn"] = lambda question: asyncio.Event().wait()
            with pytest.raises(RegistryLost):
                await registry.publish("Arith", ONE)
            assert registry.lease == 7
            await registry.withdraw("Arith", "one")
            assert registry.lease == 0
            await registry.wait_lost()  # the other entry has to be stated on the next lease
            fake.answers["kv/txn"] = lambda question: {"succeeded": True}
            await registry.publish("Arith", TWO)
            assert registry.lease == 8


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.slow
async def test_watch_that_was_off_over_a_compaction_lists_anew(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, "one", "two", "three") as cluster:
        # The watch hangs on a follower, so that there is a leader at once when that is gone.
        follower = next(each for each in cluster.servers if not each.is_leader())
        rest = [each for each in cluster.servers if each is not follower]
        places = ",".join(each.place for each in (follower, *rest))
        registry, other = registry_at(rest[0].place, ttl=5), registry_at(places, ttl=2)
        async with closing(registry, other):
            lookout = await lookout_on(other, "Arith")
            await registry.publish("Arith", ONE)
            await lookout.until_known(ONE)
            follower.pause()
            for weight in range(1, 6):
                await registry.publish("Arith", replace(TWO, weight=weight))
            await registry.withdraw("Arith", "one")
            await asyncio.to_thread(rest[0].compact)
            await lookout.until_known(replace(TWO, weight=5))
            listings = [each for each in lookout.changes if isinstance(each, Listing)]
            assert listings == [Listing(()), Listing((replace(TWO, weight=5),))]
            assert lookout.problems == []
            await lookout.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.slow
async def test_killed_leader_is_no_loss(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, "one", "two", "three") as cluster:
        leader = cluster.leader()
        rest = [each for each in cluster.servers if each is not leader]
        places = ",".join(each.place for each in (leader, *rest))
        registry, other = registry_at(places), registry_at(places)
        async with closing(registry, other):
            await registry.publish("Arith", ONE)
            lookout = await lookout_on(other, "Arith")
            leader.kill()
            await state(registry, "Arith")
            await state(registry, "Arith", TWO)
            await until(other, ONE, TWO)
            await lookout.until_known(ONE, TWO)
            await lookout.aclose()
            assert (await other.services()) == ("Arith",)


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.slow
async def test_users_log_in_and_are_let_in_again_after_a_restart(tmp_path: Path) -> None:
    with one_etcd(tmp_path) as etcd:
        etcd.ask("auth/user/add", {"name": "root", "password": "se:cret"})
        etcd.ask("auth/role/add", {"name": "root"})
        etcd.ask("auth/user/grant", {"user": "root", "role": "root"})
        etcd.ask("auth/enable", {})
        registry = registry_at(etcd.place, login="root:se%3Acret@")
        wrong = registry_at(etcd.place, login="root:guess@")
        nobody = registry_at(etcd.place)
        async with closing(registry, wrong, nobody):
            await registry.publish("Arith", ONE)
            lookout = await lookout_on(registry, "Arith")
            with pytest.raises(RegistryLost, match="refuses root") as caught:
                await wrong.publish("Arith", TWO)
            assert "guess" not in str(caught.value)
            with pytest.raises(RegistryLost, match="user name is empty"):
                await nobody.list("Arith")
            etcd.kill()  # tokens are forgotten
            etcd.start()
            await asyncio.to_thread(etcd.wait_listening)
            await state(registry, "Arith", TWO)
            await until(registry, ONE, TWO)
            await lookout.until_known(ONE, TWO)
            await lookout.aclose()


@pytest.mark.asyncio
async def test_cancelled_statement_leaves_a_host_that_hangs(etcd: Etcd, service: str) -> None:
    async with FakeEtcd() as hung:
        hung.answers["lease/grant"] = lambda question: asyncio.Event().wait()
        registry = registry_at(f"{hung.place},{etcd.place}", ttl=60)
        async with closing(registry):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await registry.publish(service, ONE)
            await registry.publish(service, ONE)
            assert (await registry.list(service)).instances == (ONE,)
            assert hung.count("lease/grant") == 1


@pytest.mark.asyncio
async def test_nothing_is_left_after_the_end(etcd: Etcd, service: str) -> None:
    tasks, before = asyncio.all_tasks(), _sockets()
    registry = registry_at(etcd.place)
    await registry.publish(service, ONE)
    lookout = await lookout_on(registry, service)
    assert len(_sockets()) > len(before)
    await lookout.aclose()
    await registry.aclose()
    await asyncio.sleep(0.01)  # uvloop closes in the next step
    assert asyncio.all_tasks() == tasks
    assert _sockets() - before == set()


def _sockets() -> set[str]:
    names = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(str(path.readlink()))
    return {name for name in names if name.startswith("socket:")}


@pytest.mark.asyncio
async def test_secure_target_is_asked_over_tls() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with FakeEtcd(context) as fake:
        fake.answers["kv/range"] = lambda question: {}
        target = parse_cluster(f"etcd+tls://{fake.place}")
        registry = EtcdRegistry(target, ttl=5, tls=trusting)
        stranger = open_registry(target)
        plain = registry_at(fake.place)
        async with closing(registry, stranger, plain):
            assert await registry.list("Arith") == Listing(())
            with pytest.raises(RegistryLost, match="(?i)certificate"):
                await stranger.list("Arith")
            with pytest.raises(RegistryLost):
                await plain.list("Arith")


class Teller:
    """A fake etcd that grants and keeps every lease, until a test changes that."""

    def __init__(self, fake: FakeEtcd) -> None:
        self.fake = fake
        self.granted = 0
        fake.answers["lease/grant"] = self.grant
        fake.answers["lease/keepalive"] = lambda question: {"result": {"ID": "1", "TTL": "6"}}
        fake.answers["lease/revoke"] = lambda question: {}
        fake.answers["kv/txn"] = lambda question: {"succeeded": True}
        fake.answers["kv/range"] = lambda question: {}

    def grant(self, question: object) -> object:
        self.granted += 1
        return {"ID": str(self.granted), "TTL": "6"}


@asynccontextmanager
async def told() -> AsyncIterator[tuple[Teller, EtcdRegistry]]:
    async with FakeEtcd() as fake:
        registry = registry_at(fake.place, ttl=6)
        async with closing(registry):
            yield Teller(fake), registry


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "gone",
    [
        lambda question: {"result": {"ID": "1"}},
        lambda question: {"result": {"ID": "1", "TTL": "0"}},
        lambda question: {"result": {"ID": "1", "TTL": "-1"}},
        lambda question: {},
        lambda question: problem(5, "requested lease not found", 404),
    ],
)
async def test_lease_that_is_not_kept_is_lost_and_another_is_taken(gone: Answer) -> None:
    async with told() as (teller, registry):
        await registry.publish("Arith", ONE)
        teller.fake.answers["lease/keepalive"] = gone
        await registry.publish("Arith", ONE)
        assert (registry.lease, teller.granted) == (2, 2)
        await registry.wait_lost()  # what else hung on it has to be stated, too


@pytest.mark.asyncio
async def test_lease_that_is_gone_as_it_is_written_is_taken_anew() -> None:
    async with told() as (teller, registry):
        answers = iter([problem(5, "lease not found", 404), {"succeeded": False}])
        teller.fake.answers["kv/txn"] = lambda question: next(answers)
        await registry.publish("Arith", ONE)
        assert registry.lease == 2
        teller.fake.answers["kv/txn"] = lambda question: problem(5, "lease not found", 404)
        with pytest.raises(RegistryLost, match="lost as soon as they are granted"):
            await registry.publish("Arith", ONE)
        assert teller.granted == 5


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["lease/grant", "lease/keepalive", "kv/txn"])
async def test_refusal_is_told_in_etcds_words(path: str) -> None:
    async with told() as (teller, registry):
        if path == "lease/keepalive":
            await registry.publish("Arith", ONE)
        teller.fake.answers[path] = lambda question: problem(7, "permission denied", 403)
        with pytest.raises(RegistryLost, match="etcd refuses: permission denied"):
            await registry.publish("Arith", ONE)


@pytest.mark.asyncio
@pytest.mark.parametrize("lease", [{}, {"ID": "0", "TTL": "5"}, {"ID": "5", "TTL": "0"}])
async def test_lease_that_is_none_is_not_taken(lease: object) -> None:
    async with told() as (teller, registry):
        teller.fake.answers["lease/grant"] = lambda question: lease
        with pytest.raises(RegistryLost, match="without a number or a time"):
            await registry.publish("Arith", ONE)


@pytest.mark.asyncio
async def test_entry_that_changes_under_its_withdrawal_is_looked_at_again() -> None:
    async with told() as (teller, registry):
        await registry.publish("Arith", ONE)
        await registry.publish("Arith", TWO)
        mine = {"kvs": [{"key": "eA==", "mod_revision": "7", "lease": "1"}]}
        teller.fake.answers["kv/range"] = lambda question: mine
        answers = iter([{"succeeded": False}, {"succeeded": True}])
        teller.fake.answers["kv/txn"] = lambda question: next(answers)
        await registry.withdraw("Arith", "one")
        assert next(answers, None) is None
        teller.fake.answers["kv/txn"] = lambda question: {"succeeded": False}
        with pytest.raises(RegistryLost, match="changes again and again"):
            await registry.withdraw("Arith", "one")
        others = {"kvs": [{"key": "eA==", "mod_revision": "7", "lease": "99"}]}
        teller.fake.answers["kv/range"] = lambda question: others
        await registry.withdraw("Arith", "one")
