"""The machine's limit: an echo in C on epoll, both ends."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.compare.load import Figures, Load
from bench.compare.peer import NotHere, Place

SOURCE = Path(__file__).with_name("echo.c")
SIZE = 64


class CEcho:
    """Runs the program made from `echo.c`; it brings its own load loop."""

    loads: ClassVar[Sequence[Load]] = (Load(1),)

    def serve(self, place: Place) -> None:
        """Become the server."""
        program = self._program(place)
        os.execv(program, [str(program), "serve", str(place.port)])

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Run the client and read its one line."""
        command = [str(self._program(place)), "client", str(place.port), str(SIZE), str(seconds)]
        clock_id = (~place.server << 3) | 2
        before = time.clock_gettime(clock_id)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        calls, took, used, p50, p99, p999 = map(float, done.stdout.split())
        # The server's time covers warm-up and timed calls too: 1.5 times the counted ones.
        served = (time.clock_gettime(clock_id) - before) / 1.5
        return Figures(calls / took, p50, p99, p999, (used + served) / calls * 1e6)

    def _program(self, place: Place) -> Path:
        program = place.folder / "echo"
        if not program.exists():
            compiler = shutil.which("cc")
            if compiler is None:
                raise NotHere("no C compiler")
            subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
        return program


PEER = CEcho()
