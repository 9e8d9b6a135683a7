"""Say what a registry knows about one server: where it is, and what it is like.

What comes out of a registry was written by anybody who may write there. So it is
read with limits, and an entry that is wrong is told apart from one that is not there.

Rules of the room:
  * the text of an instance is JSON, the same in every registry;
  * fields that a newer version adds are ignored, those that are missing have defaults;
  * an error names the field.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, final

import msgspec

from fastrpc.errors import CodecError, ConfigError
from fastrpc.transport import parse_target

#: Longest text of an instance, in bytes.
INSTANCE_MAX: Final = 4096

#: Most instances that are taken of one service.
INSTANCES_MAX: Final = 10_000

#: Most addresses of one instance, and most tags.
ADDRESSES_MAX: Final = 8
TAGS_MAX: Final = 32

#: Least and most weight: the quotient of any two is a number that can be reckoned with.
WEIGHT_MIN: Final = 0.001
WEIGHT_MAX: Final = 10_000.0

_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SERVICE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,127}")


class InstanceState(Enum):
    """What calls an instance wants."""

    UP = "up"
    DRAINING = "draining"  # finishes what it has, takes no new ones
    DOWN = "down"  # known, and not to be called


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One server known to a registry.

    Attributes:
        id: Unique among the instances of a service; the same server has another one
            after each start.
        addresses: Targets that lead to it, best first.
        weight: Its share of the calls beside others, 0.001 to 10,000; 1 is usual.
        zone: Where it stands, such as a data centre; "" if nobody said.
        version: Of the service it serves; "" for the default.
        group: Of the service it serves; "" for the default.
        tags: Whatever else somebody wants to choose by.
        state: Whether it wants calls.
    """

    id: str
    addresses: tuple[str, ...]
    weight: float = 1.0
    zone: str = ""
    version: str = ""
    group: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    state: InstanceState = InstanceState.UP

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_id(self.id)
        addresses: object = self.addresses
        if not isinstance(addresses, tuple) or not 1 <= len(addresses) <= ADDRESSES_MAX:
            raise _wrong("addresses", f"a tuple of 1 to {ADDRESSES_MAX} targets", addresses)
        for address in self.addresses:
            parse_target(address)
        weight: object = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise _wrong("weight", "a number", weight)
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise _wrong("weight", f"{WEIGHT_MIN} to {WEIGHT_MAX:.0f}", weight)
        for field in ("zone", "version", "group"):
            text = getattr(self, field)
            if not isinstance(text, str) or (text and not _NAME.fullmatch(text)):
                raise _wrong(field, "at most 128 letters, digits and . _ ~ -", text)
        self._check_tags(self.tags)
        if not isinstance(self.state, InstanceState):
            raise _wrong("state", "an InstanceState", self.state)

    def _check_tags(self, tags: object) -> None:
        """Refuse what is no tags; keep them sorted, so that equal ones are the same."""
        if not isinstance(tags, tuple) or len(tags) > TAGS_MAX:
            raise _wrong("tags", f"a tuple of at most {TAGS_MAX} pairs", tags)
        for tag in tags:
            if not isinstance(tag, tuple) or [*map(type, tag)] != [str, str]:
                raise _wrong("tags", "pairs of texts", tag)
        if len(dict(tags)) < len(tags):
            raise _wrong("tags", "names that stand there once", tags)
        object.__setattr__(self, "tags", tuple(sorted(tags)))

    def with_state(self, state: InstanceState) -> "Instance":
        """Return the same instance in another state."""
        return replace(self, state=state)


class _Text(msgspec.Struct, frozen=True):
    """An instance as registries keep it."""

    id: str
    addresses: list[str]
    weight: float = 1.0
    zone: str = ""
    version: str = ""
    group: str = ""
    tags: dict[str, str] = {}
    state: InstanceState = InstanceState.UP


_DECODER: Final = msgspec.json.Decoder(_Text)


def encode_instance(instance: Instance) -> bytes:
    """Return *instance* as registries keep it: JSON.

    Raises:
        ConfigError: It is too long.
    """
    text = msgspec.json.encode(
        {
            "id": instance.id,
            "addresses": list(instance.addresses),
            "weight": instance.weight,
            "zone": instance.zone,
            "version": instance.version,
            "group": instance.group,
            "tags": dict(instance.tags),
            "state": instance.state.value,
        }
    )
    if len(text) > INSTANCE_MAX:
        raise ConfigError(f"instance {instance.id}: {len(text)} bytes are over {INSTANCE_MAX}")
    return text


def decode_instance(text: bytes) -> Instance:
    """Return the instance that a registry has kept as *text*.

    Raises:
        CodecError: It is none, or one that nobody can call.
    """
    if len(text) > INSTANCE_MAX:
        raise CodecError(f"an instance of {len(text)} bytes is over {INSTANCE_MAX}")
    try:
        found = _DECODER.decode(text)
        return Instance(
            id=found.id,
            addresses=tuple(found.addresses),
            weight=found.weight,
            zone=found.zone,
            version=found.version,
            group=found.group,
            tags=tuple(sorted(found.tags.items())),
            state=found.state,
        )
    except (msgspec.MsgspecError, ConfigError, UnicodeError, RecursionError) as error:
        # The last one is what an unknown field with a thousand brackets in it comes to.
        raise CodecError(f"no instance: {error}") from None


def check_id(id: object) -> str:
    """Return *id* if it can be the id of an instance.

    Raises:
        ConfigError: It can't.
    """
    if not isinstance(id, str) or not _NAME.fullmatch(id):
        raise _wrong("id", "1 to 128 letters, digits and . _ ~ -", id)
    return id


def id_of(address: str) -> str:
    """Return an id for an instance that is known by its address alone: the same each time."""
    digest = hashlib.blake2s(address.encode(), digest_size=6).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._~-]+", "-", address.rpartition("//")[2])
    return f"{readable.strip('-')[:100]}-{digest}"


def check_service(name: object) -> str:
    """Return *name* if it can be the name of a service in a registry.

    Raises:
        ConfigError: It can't.
    """
    if not isinstance(name, str) or not _SERVICE.fullmatch(name):
        raise ConfigError(f"a service's name is letters, digits and . _ ~ -, got {name!r}")
    return name


def _wrong(field: str, wanted: str, given: Any) -> ConfigError:
    return ConfigError(f"instance: {field} must be {wanted}, got {given!r}")
