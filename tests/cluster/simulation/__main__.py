"""Run many schedules: `python -m tests.cluster.simulation --schedules 100000 --seed 1`."""

import argparse
import sys
import time
from collections import Counter
from dataclasses import asdict

from tests.cluster.simulation.schedule import run_schedule
from tests.cluster.simulation.world import BoundBroken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="of the first; the others follow")
    options = parser.parse_args()
    began, sums = time.monotonic(), Counter[str]()
    for seed in range(options.seed, options.seed + options.schedules):
        try:
            sums.update(asdict(run_schedule(seed)))
        except BoundBroken as error:
            print(f"seed {seed}: {error}", file=sys.stderr)
            return 1
    del sums["now"]
    seconds = time.monotonic() - began
    told = ", ".join(f"{name} {number:,}" for name, number in sums.items())
    print(f"{options.schedules:,} schedules in {seconds:.0f} s, no bound broken: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
