"""Lay members on a ring, so that a key finds the same one in every process.

The ring is cut into 128 sectors, and a member of full weight has four points in each. So
a sector can be made when the first key falls into it, no listing of a thousand members
makes half a million points at once, and who comes or goes changes four points a sector.
Five hundred points make the shares of members of one weight even to within a seventh.

Rules of the room:
  * where points and keys lie follows from ids and keys alone: the same in every process,
    on every machine, whatever happened before;
  * a member's points are as many as its weight says, spread evenly over the sectors: a
    weight that grows adds points and moves none.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from math import ceil, frexp
from typing import Final, final
from zlib import crc32

from fastrpc.errors import ConfigError
from fastrpc.frame import scattered

#: Sectors of the ring.
SECTORS: Final = 128

#: Points of a member of full weight.
POINTS: Final = 4 * SECTORS

_WORD: Final = 2**64 - 1
_WITHIN: Final = 64 - 7  # bits of a place within its sector
_INSIDE: Final = (1 << _WITHIN) - 1


def _word(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


#: What makes of a member's word its places in each sector.
_TURNS: Final = tuple(
    tuple(_word(b"sector %d, point %d" % (sector, each)) | 1 for each in range(4))
    for sector in range(SECTORS)
)


def place_of(key: object) -> int:
    """Return where a key lies: 64 bits, of which the first say the sector.

    Raises:
        ConfigError: It is nothing that is the same in every process.
    """
    # A checksum is alike for keys that are alike, and so it is scattered.
    data = key.encode(errors="surrogatepass") if type(key) is str else _plain(key)
    return scattered(crc32(data))


def _plain(key: object) -> bytes:
    """Return the bytes that stand for a key."""
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes | bytearray | memoryview):
        return bytes(key)
    if key is None or isinstance(key, int | float):
        return str(key).encode()
    if isinstance(key, tuple | list):
        return b"\0".join(_plain(each) for each in key)
    raise ConfigError(
        f"a key is text, bytes, a number or a tuple of these, got {type(key).__name__}"
    )


#: Places of the points of a sector, and whose they are.
_Sector = tuple["array[int]", list[str]]


@final
class Ring:
    """Which member a key belongs to, by id.

    Attributes:
        sectors: Points of each sector and whose they are; None for those not made yet.
    """

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._points: dict[str, int] = {}
        self.sectors: list[_Sector | None] = [None] * SECTORS

    def update(self, weights: Mapping[str, float]) -> None:
        """Have these members on the ring, each with points by its weight beside the others."""
        full = 2.0 ** frexp(max(weights.values(), default=1.0))[1]
        if max(weights.values(), default=1.0) * 2 == full:
            full /= 2  # a power of two is itself
        points = {
            id: max(1, min(ceil(POINTS * weight / full), POINTS)) for id, weight in weights.items()
        }
        before, self._points = self._points, points
        changed = [id for id in before.keys() | points.keys() if before.get(id) != points.get(id)]
        words = self._words
        for id in points.keys() - words.keys():
            words[id] = _word(id.encode())
        if len(changed) * 8 > len(points):
            self.sectors = [None] * SECTORS  # they are made again when a key falls into them
        else:
            for id in sorted(changed):
                self._move(id, before.get(id, 0), points.get(id, 0))
        for id in before.keys() - points.keys():
            del words[id]

    def walk(self, place: int) -> Iterator[str]:
        """Give the ids of the points from *place* on, once around; some come often."""
        first = place >> _WITHIN
        ids, at = self.find(place)
        yield from ids[at:]
        for sector in range(first + 1, first + SECTORS):
            yield from self._make(sector % SECTORS)[1]
        yield from ids[:at]

    def find(self, place: int) -> tuple[list[str], int]:
        """Return the ids of the points of a sector, and the first of them from *place* on."""
        points, ids = self._make(place >> _WITHIN)
        return ids, bisect_left(points, place & _INSIDE)

    def _make(self, sector: int) -> _Sector:
        """Return the points of a sector, and whose they are."""
        made = self.sectors[sector]
        if made is None:
            turns, words = _TURNS[sector], self._words
            places: list[int] = []
            whose: list[str] = []
            for id, points in self._points.items():
                word = words[id]
                for turn in turns if points == POINTS else turns[: _number(word, sector, points)]:
                    places.append((word * turn & _WORD) >> 7)
                    whose.append(id)
            order = sorted(range(len(places)), key=places.__getitem__)
            made = array("Q", [places[each] for each in order]), [whose[each] for each in order]
            self.sectors[sector] = made
        return made

    def _move(self, id: str, before: int, after: int) -> None:
        """Change the number of points of one member, where sectors have been made."""
        word = self._words[id]
        for sector, made in enumerate(self.sectors):
            if made is None:
                continue
            places, ids = made
            turns = _TURNS[sector]
            had, has = _number(word, sector, before), _number(word, sector, after)
            for turn in turns[had:has]:
                place = (word * turn & _WORD) >> 7
                at = bisect_left(places, place)
                places.insert(at, place)
                ids.insert(at, id)
            for turn in turns[has:had]:
                at = bisect_left(places, (word * turn & _WORD) >> 7)
                at = ids.index(id, at)  # another's point may lie there too
                del places[at], ids[at]


def _number(word: int, sector: int, points: int) -> int:
    """Return how many of a member's points are in a sector."""
    # An odd factor makes another order of the sectors for each member.
    rank = (sector * (word | 1) + (word >> 32)) % SECTORS
    return (points - rank + SECTORS - 1) // SECTORS
