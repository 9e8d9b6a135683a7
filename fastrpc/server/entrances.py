"""Open the listeners of a server, each with its doors and its certificate.

Rules of the room:
  * of targets that are opened together all are, or none;
  * a certificate that changed and can't be used leaves the old one in force.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import final

from fastrpc.errors import ConfigError
from fastrpc.server.doors import DOORS, check_doors, usual_doors
from fastrpc.server.hall import Entrance, Hall
from fastrpc.transport import (
    Bound,
    Listener,
    Plain,
    ServerTls,
    TlsOptions,
    check_plain,
    listen,
    parse_target,
)
from fastrpc.transport.accept import Turns


@final
class Entrances:
    """The listeners of one server.

    Args:
        hall: Where they lead.
        log: Where to say what went wrong.
    """

    def __init__(self, hall: Hall, log: logging.Logger) -> None:
        self._hall = hall
        self._log = log
        self._open: list[tuple[Listener, Entrance]] = []
        self._certificates: dict[TlsOptions, ServerTls] = {}
        self._bound: list[Bound] = []
        self._turns: Turns | None = None

    def inherit(self, bound: Sequence[Bound], turns: Turns) -> None:
        """Listen at the first targets that are opened with sockets that are bound already.

        Args:
            bound: The sockets of each target, in the order in which they are opened.
            turns: Who of those that share them accepts next.
        """
        self._bound = list(bound)
        self._turns = turns

    @property
    def targets(self) -> list[str]:
        """The real addresses, as text that a client can use."""
        return [target for listener, _ in self._open for target in listener.targets]

    @property
    def doors_by_target(self) -> dict[str, tuple[str, ...]]:
        """The open doors of each real address, in the order of `DOORS`."""
        return {
            target: tuple(door for door in DOORS if door in entrance.doors)
            for listener, entrance in self._open
            for target in listener.targets
        }

    def certificates(self, tls: TlsOptions) -> ServerTls:
        """Return what listeners with *tls* encrypt with, one for all of them.

        Raises:
            ConfigError: Its files can't be used.
        """
        given: object = tls  # whatever people give in spite of the annotation
        found = self._certificates.get(given) if isinstance(given, TlsOptions) else None
        if found is None:
            found = self._certificates[tls] = ServerTls(tls, self._stale, self._not_let_in)
        return found

    def reload(self) -> None:
        """Load the files of all certificates anew.

        Raises:
            ConfigError: They can't be used; those in force stay.
        """
        for certificate in self._certificates.values():
            certificate.reload()

    async def open(
        self,
        targets: Iterable[str],
        doors: Iterable[str] | None,
        tls: TlsOptions | None,
        plain: Plain,
    ) -> None:
        """Listen at *targets*, all or none.

        Args:
            targets: Where.
            doors: What is spoken there, None for what is usual.
            tls: What to encrypt with.
            plain: With *tls*: whether unencrypted connections may come, too.

        Raises:
            TransportError: An address can't be had.
            ConfigError: A target, a door or a certificate can't be used.
        """
        check_plain(plain, tls)
        wanted = check_doors(doors)
        certificate = self.certificates(tls) if tls is not None else None
        fresh: list[tuple[Listener, Entrance]] = []
        try:
            for target in targets:
                parsed = parse_target(target)
                bound = self._bound.pop(0) if self._bound else None
                usual = usual_doors(parsed.scheme, is_private=parsed.is_private)
                entrance = Entrance(
                    str(parsed), wanted or usual, parsed.is_private, is_named=wanted is not None
                )
                made = await listen(
                    parsed,
                    self._hall.entrance(entrance),
                    backlog=self._hall.options.backlog,
                    tls=certificate,
                    plain=plain,
                    bound=bound,
                    turns=self._turns if bound is not None else None,
                )
                fresh.append((made, entrance))
            if self._hall.is_closing:
                raise ConfigError("the server is closed; make a new one")
        except BaseException:
            for listener, _ in fresh:
                listener.close()
            raise
        self._open += fresh

    @property
    def arriving(self) -> int:
        """How many are on the way in."""
        return sum(listener.arriving for listener, _ in self._open)

    def stop_accepting(self) -> None:
        """Leave newcomers to those who listen on the same sockets."""
        for listener, _ in self._open:
            listener.stop_accepting()

    def close(self) -> None:
        """Let nobody in any more."""
        for listener, _ in self._open:
            listener.close()

    async def wait_closed(self) -> None:
        """Wait until whoever was on the way in has come in."""
        for listener, _ in self._open:
            await listener.wait_closed()

    def forget(self) -> None:
        """Let go of the listeners: they are the parent's, this is a child."""
        self._open = []

    def _stale(self, error: ConfigError) -> None:
        self._log.error("the certificate that is in force stays: %s", error)

    def _not_let_in(self, peer: str, why: str) -> None:
        self._hall.side.complain(logging.WARNING, peer, f"turned away: {why}")
