"""What can go wrong with a call, and what the caller sees.

    python examples/errors.py

Every error says in its class and in `ran` whether the handler was started, so a
caller knows what is safe to send again.
"""

import asyncio
import logging
from collections.abc import Awaitable

import fastrpc


class Bank:
    """An account that fails in every way."""

    def __init__(self) -> None:
        self._balance = 100

    def withdraw(self, amount: int) -> int:
        """Take money out; an application error carries a code and data."""
        if amount > self._balance:
            raise fastrpc.RpcError(402, "not enough money", data={"balance": self._balance})
        self._balance -= amount
        return self._balance

    def audit(self) -> None:
        """Raise something nobody planned."""
        raise ZeroDivisionError("an ordinary bug")

    async def transfer(self) -> None:
        """Take longer than any caller waits."""
        await asyncio.sleep(60)


async def attempt(title: str, call: Awaitable[object]) -> None:
    try:
        print(f"{title}: {await call}")
    except fastrpc.RpcError as error:
        print(f"{title}: RpcError code={error.code} data={error.data} ran={error.ran}")
    except fastrpc.RemoteError as error:
        print(f"{title}: RemoteError type={error.type} ran={error.ran}")
    except fastrpc.DeadlineExceeded as error:
        print(f"{title}: DeadlineExceeded ran={error.ran}")
    except fastrpc.CallError as error:
        print(f"{title}: {type(error).__name__} ran={error.ran}: {error}")
    except fastrpc.ConnectFailed as error:
        print(f"{title}: ConnectFailed ran={error.ran}")


async def withdraw_from(target: str) -> object:
    async with fastrpc.connect(target, connect_timeout=1) as client:
        return await client.call("Bank.withdraw", 1)


async def main() -> None:
    server = fastrpc.Server()
    server.register(Bank())
    await server.start("tcp://127.0.0.1:0")

    async with fastrpc.connect(server.targets[0]) as client:
        await attempt("all well       ", client.call("Bank.withdraw", 30))
        await attempt("refused        ", client.call("Bank.withdraw", 500))
        await attempt("a bug          ", client.call("Bank.audit"))
        await attempt("wrong type     ", client.call("Bank.withdraw", "thirty"))
        await attempt("wrong name     ", client.call("Bank.rob"))
        await attempt("too slow       ", client.options(timeout=0.1).call("Bank.transfer"))

    await server.aclose(grace=0)
    await attempt("nobody listens ", withdraw_from(server.targets[0]))


if __name__ == "__main__":
    # The server logs what no handler planned, with its traceback: not in this list.
    logging.getLogger("fastrpc").setLevel(logging.CRITICAL)
    asyncio.run(main())
