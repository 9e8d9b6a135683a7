"""Help people test what they build on fastrpc, with the means we test it with.

* `check_transport`: what every transport must do; `TRANSPORT_CHECKS` one by one
* `check_codec`: what every codec must do
* `check_compressor`: what every compressor must do
* `serving`: serve objects in memory, with a client; `MemoryCluster`: many of them
* `FakeClock`: a clock in the hand, and an event loop in virtual time
* `Faults`: what shall go wrong with calls, and what did; `FaultRelay` does it
* `FaultPipe`: a relay before a real server that cuts, delays, splits, corrupts
  and stalls, by script
"""

from fastrpc.testing.clock import FakeClock
from fastrpc.testing.cluster import MemoryCluster
from fastrpc.testing.codec import check_codec
from fastrpc.testing.compressor import check_compressor
from fastrpc.testing.faults import Faults
from fastrpc.testing.pipe import Cut, Delay, Fault, FaultPipe, Flip, Split, Stall, random_faults
from fastrpc.testing.relay import FaultRelay
from fastrpc.testing.serving import serving
from fastrpc.testing.transport import TRANSPORT_CHECKS, check_transport

__all__ = [
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
    "Split",
    "Stall",
    "check_codec",
    "check_compressor",
    "check_transport",
    "random_faults",
    "serving",
]
