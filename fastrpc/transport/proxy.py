"""Find out which forward proxy a connection goes through, if any.

As curl does: what a program is told counts, then the environment, for the schemes that
people expect it for; and nothing on this machine is ever reached by a detour.

Rules of the room:
  * a user and a password are in no text that this module makes, errors included;
  * whatever a variable of the environment says is an error that names it, or is obeyed.
"""

import base64
import ipaddress
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastrpc.errors import ConfigError
from fastrpc.transport.address import Target, join_host

#: For `proxy=`: take the environment's for every scheme.
FROM_ENVIRONMENT: Final = "env"

#: For `proxy=`: go straight there, whatever the environment says.
NONE: Final = "none"

#: Schemes that go by the environment's proxy without being told to.
_BY_DEFAULT: Final = frozenset({"http", "https", "ws", "wss"})

_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")
_USUAL_PORT: Final = 3128  # where there is none in the URL; squid's


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels.

    Attributes:
        host: Where it is.
        port: Where it listens.
        authorization: Header value that tells who we are, or "".
    """

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Tell where it is, and no secret."""
        return f"http://{join_host(self.host, self.port)}"

    @property
    def target(self) -> Target:
        """Where to connect to."""
        return Target("tcp", host=self.host, port=self.port)


def parse_proxy(text: str, name: str = "proxy") -> Proxy:
    """Return the proxy that *text* names: `http://user:password@host:port`, or less of it.

    Raises:
        ConfigError: It can't be used; the message does not repeat it.
    """
    given: object = text  # whatever people give in spite of the annotation
    if not isinstance(given, str) or _UNPRINTABLE.search(text):
        raise ConfigError(f"{name} must be http://host:port")
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower() != "http":
        raise ConfigError(f"{name}: only http:// proxies can be used, not {scheme[:16]}://")
    try:
        url = urllib.parse.urlsplit(text if mark else f"http://{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ConfigError(f"{name} must be http://host:port") from None
    if not host or url.path not in ("", "/") or url.query or url.fragment or port == 0:
        raise ConfigError(f"{name} must be http://host:port")
    return Proxy(host, port or _USUAL_PORT, _basic(url.username, url.password, name))


def choose_proxy(
    target: Target, proxy: str | None, environment: Mapping[str, str] | None = None
) -> Proxy | None:
    """Return the proxy for connections to *target*; None to go straight there.

    Args:
        target: Where to.
        proxy: A URL, "env", "none", or None: the environment's for http, https, ws and
            wss, none for the others.
        environment: In place of that of the process.

    Raises:
        ConfigError: What was given, or a variable, is no proxy.
    """
    if proxy is not None and proxy not in (FROM_ENVIRONMENT, NONE):
        if not target.has_host:
            raise ConfigError(f"proxy: '{target}' is on this machine")
        return parse_proxy(proxy)
    if proxy == NONE or not target.has_host:
        return None
    if proxy is None and target.scheme not in _BY_DEFAULT:
        return None
    environment = os.environ if environment is None else environment
    if _is_excepted(target, _first(environment, "no_proxy", "NO_PROXY")[1]):
        return None
    # HTTP_PROXY in capitals is not looked at: a CGI program gets it from the request.
    plain = ("http_proxy",) if target.scheme in ("http", "ws") else ("https_proxy", "HTTPS_PROXY")
    name, text = _first(environment, *plain, "all_proxy", "ALL_PROXY")
    return parse_proxy(text, name) if text else None


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    for name in names:
        if text := environment.get(name, "").strip():
            return name, text
    return "", ""


def _basic(user: str | None, password: str | None, name: str) -> str:
    if user is None and password is None:
        return ""
    user, password = urllib.parse.unquote(user or ""), urllib.parse.unquote(password or "")
    if ":" in user:
        raise ConfigError(f"{name}: there is a colon in the user's name")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _is_excepted(target: Target, exceptions: str) -> bool:
    """Tell whether NO_PROXY, or being here, keeps *target* from the proxy."""
    host = target.host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return True
    for each in exceptions.lower().replace(",", " ").split():
        if each == "*":
            return True
        name, colon, port = each.rpartition(":")
        if colon and port.isdigit() and (":" not in name or name.endswith("]")):
            if int(port) != target.port:
                continue
            each = name
        each = each.strip("[]")
        if address is not None:
            if _contains(each, address):
                return True
        elif host == each.strip(".") or host.endswith("." + each.strip(".")):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
