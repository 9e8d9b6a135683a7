"""Ask the other workers of a server what only they know.

Somebody who looks at a page has reached one worker of several. It asks the others over a
private socket of each, in a folder that only this user can enter: a line of JSON with the
path of a page, and the answer of that page comes back.

Rules of the room:
  * who does not answer in time is silent, and nobody waits longer;
  * what is asked of a worker here is about that worker alone, so nobody asks in circles.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary

from fastrpc.server.pages import PageRequest, page_at
from fastrpc.server.workers.ledger import Ledger
from fastrpc.server.workers.table import Seat, SeatState, WorkerTable
from fastrpc.transport import bind_shared

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall
    from fastrpc.server.server import Server

#: Seconds that a sibling gets for its answer.
PATIENCE: Final = 0.5

#: Most bytes of a question, and of an answer.
MOST_ASKED: Final = 64 * 2**10
MOST_ANSWERED: Final = 16 * 2**20

_log: Final = logging.getLogger("fastrpc.server.workers")


class Silent(Exception):
    """A sibling did not answer."""


@final
class Siblings:
    """The workers of one server, as one of them sees them.

    Args:
        server: What this one serves.
        table: Where all are.
        seat: Where this one sits.
        number: Its own.
        folder: Where the sockets and the ledger are.
        secret: What all of them know and nobody else does.

    Attributes:
        table: Where all are.
        seat: Where this one sits.
        ledger: What those have counted that are gone.
        secret: What all of them know and nobody else does.
    """

    def __init__(
        self,
        server: "Server",
        table: WorkerTable,
        seat: int,
        number: int,
        folder: Path,
        secret: bytes,
    ) -> None:
        self.secret = secret
        self.table = table
        self.seat = seat
        self.ledger = Ledger(folder)
        self._number = number
        self._folder = folder
        self._hall = server.hall
        self._mounts: WeakKeyDictionary[Hall, str] = WeakKeyDictionary()
        self._counted: dict[str, Any] = {}
        self._listening: asyncio.AbstractServer | None = None
        self._meet(server.hall, "")

    async def open(self) -> None:
        """Answer the others from now on."""
        bound = bind_shared(f"unix://{self._path(self.seat)}", mode=0o600, backlog=64)
        self._listening = await asyncio.start_unix_server(
            self._answer, sock=bound.sockets[0], limit=MOST_ASKED
        )

    async def close(self) -> None:
        """Write down what was counted, and answer no more."""
        if not self.table.is_ending:  # somebody will look at these figures
            for hall, mount in list(self._mounts.items()):
                await _page(hall, mount, "/debug/rpc/facts.json", {}, b"")
        if self._listening is not None:
            self._listening.close()
        with contextlib.suppress(OSError):
            self._path(self.seat).unlink()

    def others(self) -> list[Seat]:
        """Return the other workers that there are."""
        return [seat for seat in self.table.seats() if seat.seat != self.seat]

    def keep(self, hall: "Hall", counted: Mapping[str, Any]) -> None:
        """Write down what was counted, before it is told.

        Args:
            hall: Of this server, or of one that is mounted.
            counted: So far.
        """
        self._counted[self._mounts[hall]] = counted
        self.ledger.write(self.seat, self._number, self._counted)

    def counted_by(self, hall: "Hall", seat: Seat) -> dict[str, Any]:
        """Return what a silent worker has written down."""
        counted: dict[str, Any] = self.ledger.read(seat.seat, seat.number)
        found: dict[str, Any] = counted.get(self._mounts[hall], {})
        return found

    def counted_by_gone(self, hall: "Hall") -> tuple[set[int], dict[str, Any]]:
        """Return the numbers of the workers that are gone, and what they had counted."""
        numbers, counted = self.ledger.gone()
        return numbers, counted.get(self._mounts[hall], {})

    async def ask_all(
        self, hall: "Hall", path: str, query: Mapping[str, str]
    ) -> list[tuple[Seat, bytes | None]]:
        """Ask all others for a page, in `PATIENCE` seconds; None is the answer of silent ones."""
        asked = [seat for seat in self.others() if seat.state is not SeatState.STARTING]
        starting = [seat for seat in self.others() if seat.state is SeatState.STARTING]
        answers = await asyncio.gather(
            *(self.ask(seat.seat, hall, path, query) for seat in asked), return_exceptions=True
        )
        told: list[tuple[Seat, bytes | None]] = [(seat, None) for seat in starting]
        for seat, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Silent):
                raise answer
            told.append((seat, answer if isinstance(answer, bytes) else None))
        return sorted(told, key=lambda each: each[0].seat)

    async def ask(
        self, seat: int, hall: "Hall", path: str, query: Mapping[str, str], body: bytes = b""
    ) -> bytes:
        """Return what a page of another worker answers.

        Args:
            seat: Whom.
            hall: Of this server, or of one that is mounted.
            path: Of the page.
            query: What would stand behind its "?".
            body: What is sent there.

        Raises:
            Silent: It does not answer in time.
        """
        question = {
            "mount": self._mounts[hall], "path": path, "query": dict(query), "body": body.decode(),
        }  # fmt: skip
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(str(self._path(seat)))
                writer.write(json.dumps(question).encode() + b"\n")
                length = int(await reader.readline() or b"-1")
                if not 0 <= length <= MOST_ANSWERED:
                    raise Silent(f"worker {seat} has no answer")
                return await reader.readexactly(length)
        except (OSError, EOFError, ValueError) as error:  # TimeoutError is an OSError
            raise Silent(f"worker {seat} does not answer: {error}") from error
        finally:
            if writer is not None:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = json.loads(await reader.readline())
            mount, path = question["mount"], question["path"]
            hall = next((hall for hall, at in self._mounts.items() if at == mount), self._hall)
            body = await _page(hall, mount, path, question["query"], question["body"].encode())
            writer.write(b"%d\n" % len(body) + body)
            await writer.drain()
        except (OSError, ValueError, LookupError, TypeError) as error:
            _log.warning("a sibling asked something strange: %s", error)
        finally:
            writer.close()

    def _path(self, seat: int) -> Path:
        return self._folder / f"{seat}.sock"

    def _meet(self, hall: "Hall", mount: str) -> None:
        self._mounts[hall] = mount
        _known[hall] = self
        for path, mounted in hall.mounts.items():
            self._meet(mounted, mount + path)


async def _page(
    hall: "Hall", mount: str, path: str, query: Mapping[str, str], body: bytes
) -> bytes:
    """Return what a page answers about this worker alone."""
    found = page_at(path)
    if found is None:
        raise LookupError(f"there is no page {path!r}")
    place, below = found
    request = PageRequest(
        method="POST" if body else "GET",
        path=below,
        query=query,
        headers={},
        body=body,
        peer="a sibling",
        hall=hall,
        prefix=mount + place.prefix,
        is_sibling=True,
    )
    return (await place.load()(request)).body


_known: WeakKeyDictionary["Hall", Siblings] = WeakKeyDictionary()


def siblings_of(hall: "Hall") -> Siblings | None:
    """Return the workers that serve beside the one with this hall, None if there are none."""
    return _known.get(hall)
