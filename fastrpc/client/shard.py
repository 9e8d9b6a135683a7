"""Split a call by key, so that each instance gets its own, and put the results together.

Rules of the room:
  * what is split is the first argument, a list or a dict; all others go along whole;
  * results come together by one rule for each kind, whatever the number of instances: what
    works with one server works with ten;
  * what came is never lost because of what did not: the error has it.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, Final, final

from fastrpc.client.broadcast import BroadcastFailed, InstanceResult, InstanceResults, failed
from fastrpc.errors import Internal, InvalidArgument

__all__ = ["ShardFailed", "Shares", "gather_shares", "put_together"]

_UNKNOWN: Final = "a result must be a dict, a list, a set, a number, True or False, or None"


@final
class ShardFailed(BroadcastFailed):
    """Of the instances that a call was split over, some failed: one error for each of them.

    Args:
        message: As for `BroadcastFailed`,
        exceptions: likewise,
        ids: likewise,
        results: likewise.
        partial: What the others gave.
        missing: Keys that nothing came for.

    Attributes:
        partial: What came, put together as all of it would have been; of lists a dict of
            keys and what came for them. None if nothing came.
        missing: As given.
    """

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        ids: Iterable[str] = (),
        results: Mapping[str, Any] | None = None,
        partial: Any = None,
        missing: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, exceptions, ids, results)
        self.partial = partial
        self.missing = list(missing)

    def derive(self, excs: Sequence[Exception], /) -> "ShardFailed":  # type: ignore[override]
        """Return a group of some of the errors, with all that came."""
        of = super().derive(excs)
        return ShardFailed(self.message, excs, of.ids, self.results, self.partial, self.missing)


@final
class Shares:
    """The keys of one call, and which instance gets which.

    Args:
        name: Full method name, for errors.
        args: Positional arguments, the first of which is split.

    Attributes:
        keys: All of them, in order.
        places: By id of an instance, where its keys stand among all.

    Raises:
        InvalidArgument: There is nothing that could be split.
    """

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self._whole: Any = args[0] if args else None
        self._rest = args[1:]
        if not isinstance(self._whole, list | tuple | Mapping):
            given = type(self._whole).__name__ if args else "nothing"
            text = f"{name}: shard splits its first argument, a list or a dict, got {given}"
            raise InvalidArgument(text, method=name)
        self.keys: list[Any] = list(self._whole)
        self.places: dict[str, list[int]] = {}
        try:
            hash(tuple(self.keys))
        except TypeError as exc:
            raise InvalidArgument(f"{name}: these can't be keys: {exc}", method=name) from None

    def give(self, owners: Iterable[str]) -> None:
        """Give each key to its owner, in order."""
        for place, owner in enumerate(owners):
            self.places.setdefault(owner, []).append(place)

    def arguments(self, owner: str) -> tuple[Any, ...]:
        """Return the arguments of the call to one instance."""
        keys = self.keys_of(owner)
        whole = self._whole
        share: Any = {key: whole[key] for key in keys} if isinstance(whole, Mapping) else keys
        return (share, *self._rest)

    def keys_of(self, owner: str) -> list[Any]:
        """Return the keys that one instance got."""
        return [self.keys[place] for place in self.places[owner]]

    def check(self, owner: str, value: Any) -> Exception | None:
        """Return what is wrong with a result, if anything is."""
        wrong = ""
        if _kind(value) is None:
            wrong = f"{_UNKNOWN} to be put together with others, not {type(value).__name__}"
        elif isinstance(value, list | tuple) and len(value) != len(self.places[owner]):
            wrong = f"{len(self.places[owner])} keys went there, and {len(value)} results came back"
        return Internal(f"{self.name}: {wrong}", method=self.name) if wrong else None

    def merged(self, values: Mapping[str, Any], *, partly: bool = False) -> Any:
        """Return what came, put together; all of the same kind.

        Args:
            values: By instance.
            partly: Lists become dicts of keys and values, for some keys are not there.
        """
        parts = list(values.values())
        match _kind(parts[0]) if parts else None:
            case _Kind.TRUTH:
                return all(parts)
            case _Kind.NUMBER:
                return sum(parts)
            case _Kind.DICT:
                found = {key: item for part in parts for key, item in part.items()}
                return {key: found[key] for key in self.keys if key in found} | found
            case _Kind.SET:
                return set().union(*parts)
            case _Kind.LIST:
                items = [
                    pair
                    for owner, part in values.items()
                    for pair in zip(self.places[owner], part, strict=True)
                ]
                items.sort(key=itemgetter(0))
                if partly:
                    return {self.keys[place]: item for place, item in items}
                return [item for _, item in items]
        return None


class _Kind(Enum):
    """What a result is, as far as putting it together goes."""

    NOTHING = "None"
    TRUTH = "a truth"
    NUMBER = "a number"
    DICT = "a dict"
    LIST = "a list"
    SET = "a set"


#: A truth is a number to Python, so it comes first.
_KINDS: Final[tuple[tuple[tuple[type, ...], _Kind], ...]] = (
    ((type(None),), _Kind.NOTHING),
    ((bool,), _Kind.TRUTH),
    ((int, float), _Kind.NUMBER),
    ((Mapping,), _Kind.DICT),
    ((list, tuple), _Kind.LIST),
    ((set, frozenset), _Kind.SET),
)


def _kind(value: object) -> _Kind | None:
    return next((kind for types, kind in _KINDS if isinstance(value, types)), None)


async def gather_shares(shares: Shares, results: InstanceResults) -> Any:
    """Let the calls leave, and return their results as one.

    Raises:
        ShardFailed: Not all of them are well.
    """
    async with results:
        asked = len(results.ids)
        return put_together(shares, [each async for each in results], asked)


def put_together(shares: Shares, came: Iterable[InstanceResult], asked: int) -> Any:
    """Return the results of *asked* instances as one.

    Raises:
        ShardFailed: Not all of them are well.
    """
    values: dict[str, Any] = {}
    errors: dict[str, Exception] = {}
    for each in came:
        error = each.error or shares.check(each.id, each.value)
        if error is None and values:
            error = _alike(shares.name, next(iter(values.values())), each.value)
        if error is None:
            values[each.id] = each.value
        else:
            errors[each.id] = error
    # In the order of the keys, not of arrival.
    values = {owner: values[owner] for owner in shares.places if owner in values}
    if not errors:
        return shares.merged(values)
    text, excs, ids = failed(shares.name, errors, values, asked)
    lost = sorted(place for id in errors for place in shares.places[id])
    missing = [shares.keys[place] for place in lost]
    partial = shares.merged(values, partly=True)
    raise ShardFailed(text, excs, ids, values, partial, missing)


def _alike(name: str, one: object, other: object) -> Exception | None:
    if _kind(one) is _kind(other):
        return None
    kinds = f"{type(one).__name__} and {type(other).__name__}"
    return Internal(f"{name}: instances gave {kinds}: they can't be put together", method=name)
