"""Run a server until a signal says stop: the blocking way in."""

from collections.abc import Callable, Iterable
from functools import partial

from fastrpc.errors import ConfigError
from fastrpc.server.announcing import AnnounceKeywords, RegistryLike, read_announce
from fastrpc.server.runner import run_alone, serve_until_told
from fastrpc.server.server import Server
from fastrpc.server.workers import make_announcement, supervise
from fastrpc.transport import Plain, TlsOptions


def run(
    server: Server,
    *targets: str,
    workers: int = 1,
    grace: float = 30.0,
    ready: Callable[[list[str]], object] | None = None,
    doors: Iterable[str] | None = None,
    tls: TlsOptions | None = None,
    plain: Plain | None = None,
    registry: str | RegistryLike | None = None,
    announce: AnnounceKeywords | None = None,
) -> None:
    """Serve at *targets* until SIGTERM or SIGINT, then drain and return.

    A second signal stops at once. Uses uvloop where it exists.

    With a *registry* the server is announced there, see `Server.announce`. After a signal it is
    withdrawn first, and takes calls until those who watch the registry know it.

    With several *workers*, each is a process that is forked from this one and serves a copy
    of *server* as it is now; this one only looks after them, and has to be in its main thread
    and without an event loop. A worker that dies is restarted; SIGHUP replaces all, one after
    the other, without a failed call. The new ones serve the same copy of *server*: code that
    was changed on disk since is not read, unlike with `fastrpc serve --workers`, which imports
    it in each worker.

    Args:
        server: What to serve.
        targets: Where to listen.
        workers: Processes that share the targets.
        grace: Seconds that calls in flight get after the signal.
        ready: Called with the real addresses once the server listens; with several
            workers, in this process.
        doors: What is spoken there, see `Server.start`.
        tls: Certificate of the listeners.
        plain: With *tls*: "allow" lets unencrypted connections in, too.
        registry: Where to announce the server, such as "etcd://10.0.0.5:2379"; with several
            workers it is one instance, and this has to be text.
        announce: How it stands there: keyword arguments of `Server.announce`.

    Raises:
        TransportError: An address can't be had, or no worker could be started.
        ConfigError: There is no target, or a target, a door, a certificate or the registry
            can't be used, or *plain* has no certificate beside it, or *workers* is no such
            number, or there can be no workers here.
    """
    if not targets:
        raise ConfigError("there is no target to listen at, such as tcp://127.0.0.1:7000")
    chosen = announce if announce is not None else {}
    read_announce(chosen)
    start = partial(Server.start, doors=doors, tls=tls, plain=plain)
    if workers != 1:
        supervise(
            lambda: server,
            targets,
            workers=workers,
            grace=grace,
            start=start,
            ready=ready,
            backlog=server.options.backlog,
            announcement=None if registry is None else make_announcement(registry, chosen),
        )
        return

    async def begin() -> None:
        await start(server, *targets)
        if registry is not None:
            await server.announce(registry, **chosen)

    def told() -> None:
        if ready is not None:
            ready(server.targets)

    run_alone(lambda: serve_until_told(server, begin, grace, told))
