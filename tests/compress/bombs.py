"""Unpack what comes on standard input and tell how much memory that took at most.

    python -m tests.compress.bombs zlib 16777216

Each payload is its length, u32, and itself. A process of its own, because the memory of
C libraries shows in the process's alone, and only its highest point counts.
"""

import json
import sys

from fastrpc.compress import choose_compressors, pack, unpack
from fastrpc.errors import CodecError, TooLarge


def status(key: str) -> int:
    """Return what the kernel says of our memory, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def main() -> None:
    name, cap = sys.argv[1], int(sys.argv[2])
    compressor = choose_compressors((name,)).get(name)
    payloads = []
    while head := sys.stdin.buffer.read(4):
        payloads.append(sys.stdin.buffer.read(int.from_bytes(head, "big")))
    small = pack(compressor, bytes(2000))
    assert small is not None
    unpack(compressor, small, 2000)  # so that what is made once is there
    before = status("VmHWM")
    outcomes = []
    for payload in payloads:
        try:
            outcomes.append(str(len(unpack(compressor, payload, cap))))
        except (CodecError, TooLarge) as error:
            outcomes.append(type(error).__name__)
    print(json.dumps({"took": status("VmHWM") - before, "outcomes": outcomes}))


if __name__ == "__main__":
    main()
