"""Ask single instances how they are: `fastrpc.health`, past every balancer.

Rules of the room:
  * one small call at a time for each instance, and nobody waits long for one that is silent;
  * an answer may come from anybody: it is checked, and cut where it is long;
  * what fails is a text beside the instance, not an error of the command.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, final

import msgspec

import fastrpc
from fastrpc.cli.screen import visible
from fastrpc.cluster import Instance
from fastrpc.cluster.instance import id_of
from fastrpc.errors import (
    CodecError,
    DeadlineExceeded,
    FastRPCError,
    MethodNotFound,
    TransportError,
)
from fastrpc.transport import parse_target

#: What every server answers.
HEALTH: Final = "fastrpc.health"

#: Longest text of an answer that is shown.
_SHOWN: Final = 200


class Method(msgspec.Struct, frozen=True):
    """What a server has counted of one method, since its start.

    Attributes:
        calls: How many were taken.
        failures: How many did not end well, by status.
        running: In flight.
        times: Durations, and how many calls took about as long.
    """

    calls: int = 0
    failures: dict[str, int] = {}
    running: int = 0
    times: list[tuple[float, int]] = []

    @property
    def errors(self) -> int:
        """Calls that did not end well, but for those whose callers gave them up."""
        return sum(count for word, count in self.failures.items() if word != "cancelled")


class Health(msgspec.Struct, frozen=True):
    """How a server says that it is.

    Attributes:
        state: Where it stands.
        lag: How late its event loop was, in seconds.
        running: Calls in flight.
        limit: How many may be.
        refused: Calls that were not run.
        overloaded: Whether calls are refused because the loop is too busy.
        uptime: Seconds since its start; 0 if it doesn't say.
        methods: What it has counted, by name; without this very call's method.
    """

    state: str
    lag: float = 0.0
    running: int = 0
    limit: int = 0
    refused: int = 0
    overloaded: bool = False
    uptime: float = 0.0
    methods: dict[str, Method] = {}


def read_health(told: object, most: int = 0) -> Health:
    """Return what a server has *told*, with at most so many methods.

    Raises:
        CodecError: It is not what a server says of its health.
    """
    try:
        health = msgspec.convert(told, Health)
    except msgspec.ValidationError as error:
        raise CodecError(f"it answers {HEALTH} with something else: {error}") from None
    methods = dict(health.methods)
    own = methods.pop(HEALTH, None)
    running = health.running - (own.running if own is not None else 0)
    kept = {shown(name): method for name, method in list(methods.items())[:most]}
    state = shown(health.state)[:20]
    return msgspec.structs.replace(health, state=state, running=running, methods=kept)


def shown(text: str) -> str:
    """Return *text* from the other side so that a terminal can have it, and on one line."""
    clean = visible(text).replace("\n", " ").replace("\t", " ")
    return clean if len(clean) <= _SHOWN else clean[: _SHOWN - 1] + "…"


def single(target: str) -> Instance:
    """Return one server as what a registry would know of it.

    Raises:
        ConfigError: *target* can't be one.
    """
    address = str(parse_target(target))
    return Instance(id=id_of(address), addresses=(address,))


@final
class Asker:
    """Asks one instance, again and again, over one connection.

    Args:
        instance: Where it is.
        settings: Of the client.
        patience: Seconds that it has to connect, and then for each answer.

    Attributes:
        failure: Why it did not answer the last time, None if it did.
    """

    def __init__(self, instance: Instance, settings: Mapping[str, Any], patience: float) -> None:
        self._addresses = instance.addresses
        self._settings = settings
        self._patience = patience
        self._client: fastrpc.Client | None = None
        self._turn = 0
        self._dropped = 0
        self.failure: FastRPCError | None = None

    @property
    def connections(self) -> int:
        """How often a connection was tried: who is reached may be another then."""
        return self._dropped + (_dials(self._client) if self._client is not None else 0)

    async def ask(self, methods: int = 0) -> Health | str:
        """Return how it says that it is, or why nobody knows; `failure` is the error then.

        Args:
            methods: How many methods to ask about; 0 for none.
        """
        self.failure = None
        asked = {"methods": methods + 1} if methods else {}  # one more: that which is called now
        try:
            async with asyncio.timeout(self._patience):
                told = await self._connected().call(HEALTH, **asked)
            return read_health(told, methods)
        except TimeoutError:
            why = f"no answer within {self._patience:g} s"
            self.failure = DeadlineExceeded(f"{HEALTH}: {why}")
            return why
        except MethodNotFound as error:
            self.failure = error
            return f"has no {HEALTH}"
        except FastRPCError as error:
            self.failure = error
            if isinstance(error, TransportError):
                await self._elsewhere()
            return shown(str(error) or type(error).__name__)

    async def aclose(self) -> None:
        """Let go of the connection. Twice is fine."""
        client, self._client = self._client, None
        if client is not None:
            self._dropped += _dials(client)
            await client.aclose()

    def _connected(self) -> fastrpc.Client:
        if self._client is None:
            address = self._addresses[self._turn % len(self._addresses)]
            settings = {"connect_timeout": self._patience, **self._settings}
            self._client = fastrpc.connect(address, **settings)
        return self._client

    async def _elsewhere(self) -> None:
        """Try its next address when it is asked again, if it has several."""
        if len(self._addresses) > 1:
            self._turn += 1
            await self.aclose()


def _dials(client: fastrpc.Client) -> int:
    return sum(link.attempts for link in client.links())
