"""Make `python -m fastrpc` the same as the `fastrpc` command."""

from fastrpc.cli import main

if __name__ == "__main__":
    main()
