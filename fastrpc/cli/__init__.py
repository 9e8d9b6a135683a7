"""Let people use the house from a shell: the `fastrpc` command.

One module per command; what they share is apart from click and rich where it
can be: values, loading, latency and load know neither.
"""

from fastrpc.cli.app import main

__all__ = ["main"]
