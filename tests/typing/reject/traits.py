"""A trait does not wash the types off a method."""

import fastrpc


class Files:
    @fastrpc.rpc(blocking=True)
    def slow(self, path: str) -> bytes:
        return path.encode()

    @fastrpc.rpc
    def bare(self, path: str) -> bytes:
        return path.encode()


Files().slow(1)  # error
Files().bare(1)  # error
text: str = Files().slow("x")  # error
fastrpc.RpcError("code")  # error
