"""Say which version of fastrpc this is: the one place where the number stands.

The package build reads it from here without importing anything, and the HELLO
tells it to the peer.
"""

from typing import Final

__version__: Final = "0.1.0"
