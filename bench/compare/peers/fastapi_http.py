"""FastAPI on uvicorn (uvloop, httptools), called with aiohttp; JSON by orjson on the client."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.compare.load import Load
from bench.compare.peer import Place
from bench.compare.peers.on_uvloop import HOST, UvloopPeer

JSON = {"content-type": "application/json"}


class Small(BaseModel):  # type: ignore[misc,unused-ignore]
    """The payload as a model."""

    id: int
    name: str
    tags: list[str]
    score: float


async def echo(value: Small) -> Small:
    """Return *value*."""
    return value


class FastApi(UvloopPeer):
    """One HTTP connection for each call in flight, kept alive."""

    loads: ClassVar[Sequence[Load]] = (Load(1), Load(64))

    def serve(self, place: Place) -> None:
        """Serve until ended."""
        app = FastAPI()
        app.post("/echo")(echo)
        uvicorn.run(
            app, host=HOST, port=place.port, loop="uvloop", http="httptools", log_level="warning"
        )

    @asynccontextmanager
    async def connect(
        self, place: Place, load: Load
    ) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
        """Give the call to be measured."""
        url = f"http://{HOST}:{place.port}/echo"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def call(payload: Any) -> Any:
                async with session.post(url, data=orjson.dumps(payload), headers=JSON) as reply:
                    return orjson.loads(await reply.read())

            yield call


PEER = FastApi()
