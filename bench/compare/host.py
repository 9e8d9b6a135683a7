"""Be one end of one peer, in a process of its own.

    python -m bench.compare.host serve NAME PORT FOLDER
    python -m bench.compare.host client NAME PORT FOLDER SECONDS SERVER_PID

The client prints one line of JSON for each load: its figures, or what went
wrong. A peer that can't run here makes both print why and end with status 3.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from bench.compare.load import as_row
from bench.compare.peer import NotHere, Peer, Place
from bench.compare.peers import MODULES

NOT_HERE = 3


def load_peer(name: str) -> Peer:
    """Import the peer called *name*; raise `NotHere` if a part of it is missing."""
    try:
        module = importlib.import_module(MODULES[name].module)
    except ImportError as error:
        raise NotHere(str(error)) from error
    peer: Peer = module.PEER
    return peer


def tell(message: dict[str, Any]) -> None:
    """Print one line for the runner."""
    print(json.dumps(message), flush=True)


def client(peer: Peer, place: Place, seconds: float) -> None:
    """Measure every load of *peer*; one that fails does not stop the others."""
    for load in peer.loads:
        try:
            tell(as_row(load, peer.measure(place, load, seconds)))
        except NotHere:
            raise
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            tell({"row": load.row, "in_flight": load.in_flight, "size": load.size, "error": text})


def main(arguments: list[str]) -> int:
    """Serve or call, as the command line says."""
    role, name, port, folder = arguments[:4]
    place = Place(int(port), Path(folder))
    try:
        peer = load_peer(name)
        if role == "serve":
            peer.serve(place)
        else:
            place = Place(place.port, place.folder, int(arguments[5]))
            client(peer, place, float(arguments[4]))
    except NotHere as why:
        tell({"not_here": str(why)})
        return NOT_HERE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
