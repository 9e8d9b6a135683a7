"""A name server for tests: it answers what a table says, over UDP, from a thread."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

#: What to do with a question: make the reply whole, or return False for none at all.
Answer = Callable[[dns.message.QueryMessage, dns.message.Message], object]


class StubDns:
    """One name server.

    Attributes:
        asked: How many questions have come.
        answer: What answers them.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.asked = 0
        self.answer: Answer = lambda query, reply: None
        self._thread.start()

    def resolver(self) -> dns.resolver.Resolver:
        """Return a resolver that asks here and nowhere else."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self._socket.getsockname()[1]
        resolver.timeout = 5.0
        return resolver

    def says(self, *records: str, ttl: int = 60) -> None:
        """Answer with these SRV records: "priority weight port host"."""

        def answer(query: dns.message.QueryMessage, reply: dns.message.Message) -> None:
            if records:
                name = query.question[0].name
                reply.answer.append(dns.rrset.from_text(name, ttl, "IN", "SRV", *records))

        self.answer = answer

    def fails(self, code: dns.rcode.Rcode) -> None:
        """Answer that it can't be answered."""
        self.answer = lambda query, reply: reply.set_rcode(code)

    def close(self) -> None:
        """Stop."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            text, address = self._socket.recvfrom(65_535)
            if not text:
                return
            self.asked += 1
            query = dns.message.from_wire(text)
            assert isinstance(query, dns.message.QueryMessage)
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.RA | dns.flags.AA
            if self.answer(query, reply) is not False:
                self._socket.sendto(reply.to_wire(max_size=65_535), address)


@contextmanager
def stub_dns() -> Iterator[StubDns]:
    server = StubDns()
    try:
        yield server
    finally:
        server.close()
