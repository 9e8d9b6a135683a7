"""Open the listeners of a server, each with its doors and its certificate.

Rules of the room:
  * of targets that are opened together all are, or none;
  * a certificate that changed and can't be used leaves the old one in force.
"""

import logging
from collections.abc import Iterable
from typing import Literal, final

from fastrpc.errors import ConfigError
from fastrpc.server.doors import DOORS, check_doors, usual_doors
from fastrpc.server.hall import Entrance, Hall
from fastrpc.transport import Listener, ServerTls, TlsOptions, listen, parse_target

Plain = Literal["refuse", "allow"]


def check_plain(plain: object) -> None:
    """Refuse what says neither that unencrypted connections may come, nor that they may not.

    Raises:
        ConfigError: It does.
    """
    if plain not in ("refuse", "allow"):
        raise ConfigError(f"plain must be 'refuse' or 'allow', got {plain!r}")


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
        self._listeners: list[Listener] = []
        self._doors: list[frozenset[str]] = []  # of each
        self._certificates: dict[int, ServerTls] = {}  # by the identity of their options

    @property
    def targets(self) -> list[str]:
        """The real addresses, as text that a client can use."""
        return [target for listener in self._listeners for target in listener.targets]

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """The open doors of each real address, in the order of `DOORS`."""
        return {
            target: tuple(door for door in DOORS if door in doors)
            for listener, doors in zip(self._listeners, self._doors, strict=True)
            for target in listener.targets
        }

    def certificates(self, tls: TlsOptions) -> ServerTls:
        """Return what listeners with *tls* encrypt with, one for all of them.

        Raises:
            ConfigError: Its files can't be used.
        """
        found = self._certificates.get(id(tls))
        if found is None:
            found = self._certificates[id(tls)] = ServerTls(tls, self._stale)
            found.on_refused = self._not_let_in
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
        check_plain(plain)
        wanted = check_doors(doors)
        certificate = self.certificates(tls) if tls is not None else None
        fresh: list[Listener] = []
        opened: list[frozenset[str]] = []
        try:
            for target in targets:
                parsed = parse_target(target)
                usual = usual_doors(parsed.scheme, is_private=parsed.is_private)
                entrance = Entrance(str(parsed), wanted or usual, parsed.is_private)
                made = await listen(
                    parsed,
                    self._hall.entrance(entrance),
                    backlog=self._hall.options.backlog,
                    tls=certificate,
                    plain=plain,
                )
                fresh.append(made)
                opened.append(entrance.doors)
            if self._hall.is_closing:
                raise ConfigError("the server is closed; make a new one")
        except BaseException:
            for listener in fresh:
                listener.close()
            raise
        self._listeners += fresh
        self._doors += opened

    def close(self) -> None:
        """Let nobody in any more."""
        for listener in self._listeners:
            listener.close()

    async def wait_closed(self) -> None:
        """Wait until whoever was on the way in has come in."""
        for listener in self._listeners:
            await listener.wait_closed()

    def forget(self) -> None:
        """Let go of the listeners: they are the parent's, this is a child."""
        self._listeners, self._doors = [], []

    def _stale(self, error: ConfigError) -> None:
        self._log.error("the certificate that is in force stays: %s", error)

    def _not_let_in(self, peer: str, why: str) -> None:
        self._hall.side.complain(logging.WARNING, peer, f"turned away: {why}")
