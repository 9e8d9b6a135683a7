"""No connection is played again."""

import pytest

from fastrpc.errors import ProtocolError
from fastrpc.protocol import Nonces
from fastrpc.wire import StatusCode


def test_a_nonce_is_good_once() -> None:
    nonces = Nonces()
    nonces.take("one")
    nonces.take("two")
    with pytest.raises(ProtocolError, match="used before") as caught:
        nonces.take("one")
    assert caught.value.status == StatusCode.UNAUTHENTICATED


def test_who_has_none_comes_as_often_as_it_likes() -> None:
    nonces = Nonces()
    for _ in range(3):
        nonces.take("")


def test_the_oldest_is_forgotten() -> None:
    nonces = Nonces(most=2)
    for nonce in ("one", "two", "three"):
        nonces.take(nonce)
    nonces.take("one")
    with pytest.raises(ProtocolError):
        nonces.take("three")
