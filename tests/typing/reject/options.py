"""Options are keyword-only and have types."""

import fastrpc


async def main() -> None:
    fastrpc.connect()  # error
    fastrpc.connect("tcp://127.0.0.1:7000", 1.0)  # error
    fastrpc.connect("tcp://127.0.0.1:7000", timeout="1")  # error
    fastrpc.connect("tcp://127.0.0.1:7000", no_such_option=1)  # error
    fastrpc.Server(1)  # error
    fastrpc.Server(max_body="1")  # error
    fastrpc.Server(errors=[KeyboardInterrupt])  # error
    fastrpc.connect("tcp://127.0.0.1:7000", errors=KeyError)  # error
    fastrpc.rpc(blocking="yes")  # error
    client = fastrpc.connect("tcp://127.0.0.1:7000")
    await client.call(1)  # error
    client.options(timeout="1")  # error
