"""Let each client know a few of very many instances, each another few.

Each client gives each instance a score that follows from both names, and takes the
highest (Thaler, Ravishankar, "A name-based mapping scheme for rendezvous", 1996). When
an instance comes or goes, a client exchanges one of its own at most; and over many
clients all instances are known to about as many.
"""

from collections.abc import Sequence
from hashlib import blake2b
from heapq import nlargest
from typing import Final, final

from fastrpc.cluster.instance import Instance
from fastrpc.errors import ConfigError

_KEY: Final = 64  # longest key of a hash


@final
class Subset:
    """The instances of one client.

    Args:
        client: Name of the client, another for each.
        size: How many instances it knows.
    """

    def __init__(self, client: str, size: int) -> None:
        if type(size) is not int or size < 1:
            raise ConfigError(f"size must be 1 or more, got {size!r}")
        self._key = blake2b(client.encode(), digest_size=_KEY).digest()
        self._size = size

    def choose(self, instances: Sequence[Instance]) -> Sequence[Instance]:
        """Return those of *instances* that this client knows, in their order."""
        if len(instances) <= self._size:
            return instances
        chosen = nlargest(self._size, instances, self._score)
        ids = {instance.id for instance in chosen}
        return [instance for instance in instances if instance.id in ids]

    def _score(self, instance: Instance) -> bytes:
        return blake2b(instance.id.encode(), digest_size=8, key=self._key).digest()
