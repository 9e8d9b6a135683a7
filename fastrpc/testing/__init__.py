"""Help people test what they build on fastrpc, with the means we test it with.

* `check_transport`: what every transport must do; `TRANSPORT_CHECKS` one by one
* `check_codec`: what every codec must do
* `check_compressor`: what every compressor must do
* `check_registry`: what every registry must do; `registry_checks` names the checks
* `check_balancer`: what every balancer must do; `BALANCER_CHECKS` one by one
* `serving`: serve objects in memory, with a client; `MemoryCluster`: many of them
* `FakeClock`: a clock in the hand, and an event loop in virtual time
* `Faults`: what shall go wrong with calls, and what did; `FaultRelay` does it
* `FaultPipe`: a relay before a real server that cuts, delays, splits, corrupts
  and stalls, by script
"""

from fastrpc.testing.balancer import BALANCER_CHECKS, Puppet, StandIn, check_balancer
from fastrpc.testing.clock import FakeClock
from fastrpc.testing.cluster import MemoryCluster
from fastrpc.testing.codec import check_codec
from fastrpc.testing.compressor import check_compressor
from fastrpc.testing.faults import Faults
from fastrpc.testing.pipe import Cut, Delay, Fault, FaultPipe, Flip, Split, Stall, random_faults
from fastrpc.testing.registry import check_registry, registry_checks
from fastrpc.testing.relay import FaultRelay
from fastrpc.testing.serving import serving
from fastrpc.testing.transport import TRANSPORT_CHECKS, check_transport

__all__ = [
    "BALANCER_CHECKS",
    "TRANSPORT_CHECKS",
    "Cut",
    "Delay",
    "FakeClock",
    "Fault",
    "FaultPipe",
    "FaultRelay",
    "Faults",
    "Flip",
    "MemoryCluster",
    "Puppet",
    "Split",
    "Stall",
    "StandIn",
    "check_balancer",
    "check_codec",
    "check_compressor",
    "check_registry",
    "check_transport",
    "random_faults",
    "registry_checks",
    "serving",
]
