"""Random schedules of what can happen to a cluster, each from one number."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.simulation.clients import SimClient
from tests.cluster.simulation.servers import FakeRegistry, Server
from tests.cluster.simulation.world import World, ensure

CALLS = 50
FAULTS = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a schedule was like.

    Attributes:
        steps: Events.
        calls: Calls that were begun.
        refused: Those that found nobody.
        retries: Those that were sent again, so often.
        ejections: How often an instance was ejected.
        now: When it ended, which tells schedules apart.
    """

    steps: int
    calls: int
    refused: int
    retries: int
    ejections: int
    now: float


def run_schedule(seed: int) -> Outcome:
    """Run one schedule.

    Raises:
        BoundBroken: Something happened that must never happen.
    """
    world = World(seed)
    chance = world.chance
    registry = FakeRegistry(world)
    servers = [Server(world, registry, number) for number in range(chance.randrange(1, 7))]
    world.run(world.now + 1.0)
    clients = [SimClient(world, registry, servers) for _ in range(chance.choice((1, 1, 2)))]
    seconds = chance.choice((3.0, 8.0, 25.0))
    begin = world.now
    for client in clients:
        _plan_calls(world, client, seconds)
    faults = _faults(world, registry, servers, clients)
    for _ in range(chance.randrange(FAULTS)):
        world.after(chance.uniform(0.0, seconds), chance.choice(faults))
    _plan_looks(world, registry, servers, clients, begin + seconds)
    world.run(begin + seconds)
    world.run(world.now + 10.0)  # what is under way ends
    for client in clients:
        ensure(client.ended == client.begun, "a call has not ended")
        left = sum(member.in_flight for member in client.members.values())
        ensure(left == 0, f"{left} calls are in flight that nobody waits for")
    return Outcome(
        steps=world.steps,
        calls=sum(client.begun for client in clients),
        refused=sum(client.refused for client in clients),
        retries=sum(len(client.retried) for client in clients),
        ejections=sum(e.ejection.ejections for c in clients for e in c.members.values()),
        now=world.now,
    )


def _plan_calls(world: World, client: SimClient, seconds: float) -> None:
    """Have calls come in bursts and one by one."""
    chance = world.chance
    planned = 0
    while planned < CALLS:
        at, burst = chance.uniform(0.0, seconds), chance.choice((1, 1, 1, 10, 30))
        for _ in range(burst):
            world.after(at + chance.uniform(0.0, 0.5), client.call)
        planned += burst


def _plan_looks(
    world: World,
    registry: FakeRegistry,
    servers: list[Server],
    clients: list[SimClient],
    until: float,
) -> None:
    """Have everybody do what is done every second, and look whether what is believed is so."""

    def look() -> None:
        registry.expire()
        for server in servers:
            server.check()
        for client in clients:
            client.look()
        if world.now < until:
            world.after(1.0, look)

    world.after(world.chance.random(), look)


def _faults(
    world: World, registry: FakeRegistry, servers: list[Server], clients: list[SimClient]
) -> list[Callable[[], None]]:
    """Return what may happen."""
    chance = world.chance

    def reach() -> None:
        for client in clients:
            client.reach()

    def crash() -> None:
        server = chance.choice(servers)
        server.crash()
        world.after(0.01, reach)
        world.after(chance.choice((0.1, 3.0, 20.0)), lambda: _start(server))

    def _start(server: Server) -> None:
        if not server.is_up:
            server.start()
            reach()

    def leave() -> None:
        server = chance.choice(servers)
        server.leave()
        world.after(0.51, reach)
        world.after(2.0, lambda: _start(server))

    def slow() -> None:
        chance.choice(servers).latency = chance.choice((0.1, 1.0, 5.0))

    def hang() -> None:
        server = chance.choice(servers)
        server.is_hanging = True
        world.after(chance.choice((1.0, 10.0)), lambda: setattr(server, "is_hanging", False))

    def err() -> None:
        share = chance.choice((0.1, 0.5, 1.0))
        for server in chance.sample(servers, chance.randrange(1, len(servers) + 1)):
            server.error_share = share
        client = chance.choice(clients)
        for _ in range(chance.choice((0, 10, 20))):
            world.after(chance.uniform(0.0, 0.5), client.call)
        world.after(chance.choice((1.0, 10.0)), heal)

    def heal() -> None:
        for server in servers:
            server.error_share, server.latency = 0.0, 0.01

    def lose() -> None:
        for server in servers:
            server.lose_session()

    def down() -> None:
        registry.go_down()
        world.after(chance.choice((0.5, 5.0, 30.0)), registry.come_back)

    def leap() -> None:
        world.leap(chance.choice((0.3, 7.0, 100.0)))
        registry.expire()

    return [crash, crash, leave, slow, hang, err, err, heal, lose, down, down, leap]
