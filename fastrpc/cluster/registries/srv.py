"""Read SRV records: the hosts and ports of a service, with priorities and weights.

Of several priorities the lowest counts, as RFC 2782 says: the others stand by, and are
seen once those are taken out of the records. It stands on dnspython.
"""

from typing import Final

import dns.exception
import dns.rdatatype
import dns.resolver

from fastrpc.cluster.instance import INSTANCES_MAX, WEIGHT_MAX, Instance, id_of
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.transport import join_host

__all__ = ["look_up_service"]

#: Seconds for all tries to reach a name server.
LIFETIME: Final = 5.0


def look_up_service(
    name: str, resolver: dns.resolver.Resolver | None = None
) -> tuple[tuple[Instance, ...], int, float]:
    """Return the instances of *name*, how many records were of no use, and their time to live.

    A name that is not there, or has no such records, has no instances: a name server has
    said so. Blocks until there is an answer.

    Args:
        name: Such as "_arith._tcp.example.com".
        resolver: Whom to ask, the system's name servers by default.

    Raises:
        RegistryLost: No name server says anything that can be used.
    """
    try:
        ask = resolver if resolver is not None else dns.resolver.Resolver()
        answer = ask.resolve(name, "SRV", lifetime=LIFETIME, search=False, tcp=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return (), 0, 0.0
    except (dns.exception.DNSException, OSError) as error:
        raise RegistryLost(f"SRV {name}: {error}") from None
    records = [each for each in answer if each.rdtype == dns.rdatatype.SRV]
    lowest = min((each.priority for each in records), default=0)
    found: dict[str, Instance] = {}
    skipped = 0
    for record in records:
        if record.priority != lowest:
            continue
        host = record.target.to_text(omit_final_dot=True)
        if host in ("", "."):
            continue  # decidedly not available here
        try:
            instance = _instance(host, record.port, record.weight)
        except ConfigError:
            skipped += 1
            continue
        if len(found) < INSTANCES_MAX:
            found[instance.id] = instance
    ttl = float(answer.rrset.ttl) if answer.rrset is not None else 0.0
    return tuple(found.values()), skipped, ttl


def _instance(host: str, port: int, weight: int) -> Instance:
    if not port:
        raise ConfigError("an SRV record without a port")
    target = f"tcp://{join_host(host, port)}"
    # Weight 0 means "hardly ever", and all 0 that there is nothing to weigh.
    share = min(weight, WEIGHT_MAX) if weight else 0.1
    return Instance(id=id_of(target), addresses=(target,), weight=share)
