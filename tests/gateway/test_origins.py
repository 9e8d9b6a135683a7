"""Names and pages that may ask; how it looks over a connection is in test_routes."""

import pytest

from fastrpc.gateway.origins import check_origin, cross_headers, is_passed_on, preflight_headers
from fastrpc.gateway.request import RefusedError, Request
from fastrpc.server.hall import Entrance
from fastrpc.server.http import HttpOptions

PUBLIC = Entrance("tcp://0.0.0.0:1", frozenset())
PRIVATE = Entrance("tcp://127.0.0.1:1", frozenset(), is_private=True)


def request(version: str = "1.1", method: str = "GET", **headers: str) -> Request:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, "/", "/", "", found, [], version)


def test_who_has_no_origin_is_no_page() -> None:
    assert not check_origin(request(host="a"), HttpOptions(), PUBLIC)
    assert not check_origin(request("1.0"), HttpOptions(), PRIVATE)
    with pytest.raises(RefusedError):
        check_origin(request(), HttpOptions(), PRIVATE)


@pytest.mark.parametrize(
    ("origin", "host", "fits"),
    [
        ("http://a.example", "a.example", True),
        ("https://a.example", "a.example", True),
        ("https://a.example", "a.example:443", True),
        ("http://a.example:81", "a.example:81", True),
        ("http://a.example", "a.example:81", False),
        ("http://a.example:81", "a.example", False),
        ("http://b.a.example", "a.example", False),
        ("http://a.example.evil", "a.example", False),
        ("file://", "a.example", False),
        ("null", "null", False),
    ],
)
def test_pages_of_our_own(origin: str, host: str, fits: bool) -> None:
    asked = request(origin=origin, host=host)
    if fits:
        assert not check_origin(asked, HttpOptions(), PUBLIC)
    else:
        with pytest.raises(RefusedError):
            check_origin(asked, HttpOptions(), PUBLIC)


def test_pages_of_others() -> None:
    asked = request(origin="https://App.example", host="a")
    assert check_origin(asked, HttpOptions(origins=("https://app.example",)), PUBLIC)
    assert check_origin(asked, HttpOptions(origins=("*",)), PUBLIC)
    assert ("Access-Control-Allow-Origin", "https://App.example") in cross_headers(asked)


def test_only_a_visit_to_a_page_may_come_from_elsewhere() -> None:
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate",
             "sec_fetch_dest": "document", "host": "a"}  # fmt: skip
    assert not check_origin(request(**visit), HttpOptions(), PUBLIC, is_page=True)
    for wrong in ({"sec_fetch_dest": "iframe"}, {"sec_fetch_mode": "no-cors"}):
        with pytest.raises(RefusedError):
            check_origin(request(**visit | wrong), HttpOptions(), PUBLIC, is_page=True)
    with pytest.raises(RefusedError):
        check_origin(request(method="POST", **visit), HttpOptions(), PUBLIC, is_page=True)
    with pytest.raises(RefusedError):
        check_origin(request(**visit), HttpOptions(), PUBLIC)


def test_a_preflight_is_told_what_it_asked_for() -> None:
    told = dict(preflight_headers(request(access_control_request_headers="A, b"), "GET"))
    assert told["Access-Control-Allow-Headers"] == "a, b"
    assert "Access-Control-Allow-Headers" not in dict(preflight_headers(request(), "GET"))


@pytest.mark.parametrize(
    ("headers", "passed_on"),
    [
        ({"host": "localhost:7000"}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "[::1]:7000"}, False),
        ({"host": "rpc.example.com"}, True),
        ({"host": "203.0.113.7"}, True),
        ({"host": "[2001:db8::1]"}, True),
        ({"host": "localhost", "x_forwarded_for": "203.0.113.7"}, True),
        ({"host": "localhost", "via": "1.1 tinyproxy"}, True),
        ({"host": "localhost", "forwarded": "for=203.0.113.7"}, True),
    ],
)
def test_who_comes_through_a_proxy_on_this_machine(
    headers: dict[str, str], passed_on: bool
) -> None:
    assert is_passed_on(request(**headers)) is passed_on


def test_an_origin_that_is_no_ascii_is_nobodys() -> None:
    asked = request(origin="http://\xe9", host="a")
    with pytest.raises(RefusedError):
        check_origin(asked, HttpOptions(origins=("*",)), PUBLIC)


def test_a_preflight_names_headers_only() -> None:
    asked = request(access_control_request_headers="X-One, \xe9\xe9, a b, two", origin="http://a")
    told = dict(preflight_headers(asked, "POST"))
    assert told["Access-Control-Allow-Headers"] == "x-one, two"


def test_a_page_that_only_its_referer_tells_of() -> None:
    foreign = request(referer="http://evil.example/page", host="a.example")
    with pytest.raises(RefusedError):
        check_origin(foreign, HttpOptions(), PUBLIC)
    assert not check_origin(foreign, HttpOptions(), PUBLIC, is_page=True), "a link leads here"
    assert not check_origin(
        request(referer="http://a.example/page", host="a.example"), HttpOptions(), PUBLIC
    )
