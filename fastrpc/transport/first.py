"""Know what a first byte says, and refuse HTTP in its own words.

Who looks at the first byte of a connection is a listener with a certificate, and the doorway of
a server: both take it for the same.
"""

from typing import Final

#: First byte of every TLS handshake.
TLS_HELLO: Final = b"\x16"

#: First bytes of HTTP: a method is in capital letters.
HTTP_FIRST: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def bad_request(text: str) -> bytes:
    """Return what somebody gets who speaks HTTP where nobody does; a browser shows it."""
    body = f"{text}\r\n".encode()
    return (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
    ) % (len(body), body)
