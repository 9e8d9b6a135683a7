"""Make sure that a slow peer is noticed, whatever the event loop forgets.

asyncio of Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 does not look at the size
of its buffer after `writelines` (CVE-2024-12254): `pause_writing` never comes,
and a peer that reads nothing fills our memory.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

#: Bytes that may wait in a transport before the writer is paused.
WRITE_HIGH: Final = 64 * 1024

_FORGETFUL: Final = (3, 12) <= sys.version_info < (3, 12, 9) or (
    (3, 13) <= sys.version_info < (3, 13, 2)
)


def writelines_of(transport: asyncio.Transport) -> Callable[[list[bytes]], Any]:
    """Return what writes several pieces at once and then looks at the high-water mark."""
    if not _FORGETFUL:
        return transport.writelines

    def writelines(pieces: list[bytes]) -> None:
        transport.writelines(pieces)
        transport.set_write_buffer_limits(high=WRITE_HIGH)  # which looks

    return writelines
