"""Speak JSON-RPC 2.0, and 1.0 to those who ask in it.

Arguments and results pass unread: `params` is the payload of a call, `result` that of its
reply. One message or batch comes at a time; what cuts a stream of bytes into them is
`lines`, WebSocket or HTTP. Beyond the specification, a method that gives items can be
called: they come as notifications `rpc.item`, the end is the ordinary response, and the
notification `rpc.cancel` gives a call up.

Rules of the room:
  * a request is answered once, a notification never; a batch in one piece, when all of it is;
  * an id is not used twice while it is open;
  * what waits in batches that are not whole is counted: past the limit their answers
    become errors, and of further batches nothing is called;
  * what a client sends that is no request costs it an error, not the connection.
"""

from typing import Any, ClassVar, Final

from fastrpc.errors import FastRPCError, MethodNotFound, TooLarge
from fastrpc.frame import Frame
from fastrpc.gateway import jsonerrors
from fastrpc.gateway.convert import converted, json_of, params_of, value_of
from fastrpc.gateway.jsonerrors import CODES, INVALID_REQUEST, PARSE_ERROR, error_object
from fastrpc.gateway.jsonmessages import (
    NULL,
    Answers,
    Held,
    Request,
    Respond,
    failure,
    nameless,
    read_request,
    success,
)
from fastrpc.gateway.jsontext import MalformedError, Members, check, elements, members
from fastrpc.gateway.tongue import Shape, Sink, Tongue, stranger
from fastrpc.wire import BIT_END, HEADER_BASE, ID_MAX, Kind, Serializer, StatusCode

#: Most requests of a batch.
BATCH_MAX: Final = 1000

TOO_LARGE_CODE: Final = CODES[StatusCode.TOO_LARGE]

_JSON: Final = int(Serializer.JSON)
_NOT_ONE: Final = "a request is an object"


class _Open:
    """A call of the peer's that has no answer yet."""

    __slots__ = ("answers", "owed", "request")

    def __init__(self, request: Request, answers: Answers) -> None:
        self.request = request
        self.answers = answers
        self.owed = 0  # bytes of items that were passed on, and not granted anew


class JsonRpc(Tongue):
    """Translate between JSON-RPC and frames.

    Args:
        to_peer: Takes what answers nothing: calls of ours, and items. None if the peer can't
            be told any, as over HTTP: such calls are answered with status 44.
        to_session: See `Tongue`.
        options: See `Tongue`.
    """

    name: ClassVar[str] = "JSON-RPC"
    door: ClassVar[str] = "jsonrpc"
    serializer: ClassVar[Serializer] = Serializer.JSON

    def __init__(self, to_peer: Sink | None, to_session: Sink, **options: Any) -> None:
        """Say nothing yet."""
        super().__init__(to_peer if to_peer is not None else _nobody, to_session, **options)
        self._can_push = to_peer is not None
        self._open: dict[int, _Open] = {}
        self._ids: dict[bytes, int] = {}  # of those that have one, by what the peer calls it
        self._asked: dict[int, int] = {}  # serializer of the session's calls, by id
        self._last_asked = 0
        self.held = Held()  # answers that wait for others of their batch
        # One body may always wait; beyond that it is what may wait for who does not read.
        self._most_held = max(self.limits.max_unsent, self.longest)

    def lose(self) -> None:
        """Let go of everything; answers of unfinished batches, too."""
        super().lose()
        self._open, self._ids, self._asked = {}, {}, {}

    # Messages of the peer's

    def message(self, data: bytes, respond: Respond) -> None:
        """Take one message or batch.

        Args:
            data: The whole of it.
            respond: Told once, when everything in it was answered; None if there is nothing
                to say.
        """
        try:
            self._message(data, respond)
        finally:
            self._hand_over()

    def _feed(self, data: bytes) -> None:
        self._message(data, self._say)

    def _end(self) -> None:
        pass  # messages have bounds

    def _say(self, text: bytes | None) -> None:
        if text is not None:
            self._to_peer(text)

    def _message(self, data: bytes, respond: Respond) -> None:
        self.messages += 1
        parts, code, why = self._parts(data)
        if parts is None:
            if self.is_dialled:  # a server that says such things is none that we can talk to
                raise stranger(self.name, data, why)
            respond(nameless(error_object(code, why)))
            return
        is_batch = isinstance(parts, list)
        found = parts if isinstance(parts, list) else [parts]
        answers = Answers(respond, len(found), self.held, is_batch=is_batch)
        for part in found:
            if part is None:
                answers.add(nameless(error_object(INVALID_REQUEST, _NOT_ONE)))
            elif not part["method"] and (part["result"] or part["error"]):
                self._response(part)
                answers.add(None)
            else:
                self._request(read_request(part), answers)

    def _parts(self, data: bytes) -> tuple[Members | list[Members | None] | None, int, str]:
        """Cut a message; return one request or a batch, or code and text of what is wrong."""
        if len(data) > self.longest:
            return None, TOO_LARGE_CODE, self.too_long(len(data))
        try:
            check(data, self.limits, BATCH_MAX)
            start = data.lstrip()[:1]
            if start == b"{":
                return members(data), 0, ""
            if start != b"[":
                value_of(data, self.limits)
                return None, INVALID_REQUEST, _NOT_ONE
            parts = elements(data)
            if not 0 < len(parts) <= BATCH_MAX:
                text = f"a batch has 1 to {BATCH_MAX} requests, this has {len(parts)}"
                return None, INVALID_REQUEST, text
            return [members(part) if part[:1] == b"{" else None for part in parts], 0, ""
        except MalformedError as error:
            return None, PARSE_ERROR, f"no JSON: {error}"
        except FastRPCError as error:
            is_large = error.status == StatusCode.TOO_LARGE
            return None, TOO_LARGE_CODE if is_large else PARSE_ERROR, str(error)

    @property
    def _over(self) -> str:
        return f"hold over {self._most_held} bytes (max_unsent, or one message of max_body)"

    def too_long(self, size: int) -> str:
        """Return what is said of a message of more bytes than may come."""
        return f"a message of {size} bytes is over {self.longest} (max_body and what is around it)"

    def _request(self, request: Request, answers: Answers) -> None:
        code, why = INVALID_REQUEST, request.fault
        if not why and request.id in self._ids:
            why = "the id belongs to a request that is not answered yet"
            request = request._replace(id=NULL)  # or the first would be taken for answered
        if why:
            answers.add(failure(request, error_object(code, why)))
            return
        if request.name == b"rpc.cancel":
            self._cancel(request, answers)
            return
        shape = self._shape_of(request.name)
        why = "" if shape is Shape.CALL else self._no_stream(shape, request.is_silent)
        if request.is_silent and (why or not request.name):
            self.vain += 1
            answers.add(None)
            return
        if why:
            text = f"{request.name.decode(errors='replace')} {why}"
            error = error_object(CODES[StatusCode.UNSUPPORTED], text)
            answers.add(failure(request, error))
            return
        if answers.is_batch and not request.is_silent and self.held.size >= self._most_held:
            error = error_object(CODES[StatusCode.OVERLOADED], f"unfinished batches {self._over}")
            answers.add(failure(request, error))
            return
        number = self._next_id()
        kind, bits = (Kind.CALL, 0) if shape is Shape.CALL else (Kind.OPEN, BIT_END)
        self._frame(
            kind, number, serializer=_JSON, oneway=request.is_silent, bits=bits,
            name=request.name, payload=request.params,
        )  # fmt: skip
        if request.is_silent:
            answers.add(None)
            return
        self._open[number] = _Open(request, answers)
        if request.id != NULL:
            self._ids[request.id] = number

    def _no_stream(self, shape: Shape, is_silent: bool) -> str:
        if shape is Shape.TAKES:
            return "takes items, and JSON-RPC can't send any"
        if not self._can_push:
            return "gives items, and they need a connection: call it over WebSocket or TCP"
        return "gives items: call it with an id" if is_silent else ""

    def _leave(self, number: int) -> _Open | None:
        found = self._open.pop(number, None)
        if found is not None and found.request.id != NULL:
            del self._ids[found.request.id]
        return found

    def _cancel(self, request: Request, answers: Answers) -> None:
        """Give up a call for the peer; it gets its response now, and no other."""
        number = self._ids.get(_named(request.params), 0)
        found = self._leave(number)
        if found is not None:
            self._frame(Kind.CANCEL, number, status=int(StatusCode.CANCELLED))
            error = error_object(CODES[StatusCode.CANCELLED], "cancelled by the caller")
            found.answers.add(failure(found.request, error))
        told = b"false" if found is None else b"true"
        answers.add(None if request.is_silent else success(request, told))

    def _response(self, found: Members) -> None:
        """Take what the peer answers to a call of ours."""
        number = self._number_of(found["id"])
        wanted = self._asked.pop(number, None)
        if wanted is None:
            if not 0 < number <= self._last_asked:  # out of nowhere, not late: the session counts
                self._frame(Kind.CALL, 0, reply=True, serializer=_JSON, payload=NULL)
            else:
                self._stray()
            return
        error = found["error"]
        try:
            if error and error != NULL:
                status, code, body = jsonerrors.reply_of(value_of(error, self.limits))
                self._fail(number, status, body, code)
            else:
                payload = converted(found["result"] or NULL, _JSON, wanted, self.limits)
                self._frame(Kind.CALL, number, reply=True, serializer=wanted, payload=payload)
        except FastRPCError as fault:
            self._refuse(number, StatusCode.RESULT_UNSENDABLE, f"the answer: {fault}")

    def _number_of(self, id: bytes) -> int:
        """Return which call of ours an answer is for, 0 for none."""
        if id == NULL and len(self._asked) == 1:  # it could not be read, and was the only one
            return next(iter(self._asked))
        return int(id) if id.isdigit() and len(id) < 20 and int(id) <= ID_MAX else 0

    # Frames of the session's

    def resume_writing(self) -> None:
        """Go on: the peer has read, and so may get more."""
        super().resume_writing()
        for number, found in self._open.items():
            self._grant(number, found)
        self._hand_over()

    def _answer(self, frame: Frame) -> None:
        found = self._leave(frame.id)
        if found is None:  # it was given up
            return
        request, answers = found.request, found.answers
        try:
            if frame.status:
                make = jsonerrors.text_of if request.is_old else jsonerrors.error_of
                said = failure(request, make(frame))
            else:
                result = converted(frame.payload, frame.serializer, _JSON, self.limits)
                said = success(request, result)
            self._check_room(answers, len(said))
        except FastRPCError as error:
            code = CODES[StatusCode.RESULT_UNSENDABLE]
            said = failure(request, error_object(code, f"the result: {error}"))
        answers.add(said)

    def _check_room(self, answers: Answers, size: int) -> None:
        """See whether an answer may wait for the others of its batch.

        Raises:
            TooLarge: It may not.
        """
        if answers.size and answers.size + size > self.longest:
            # They wait for each other, and one body is the most that may wait.
            raise TooLarge(f"the answers of a batch are over {self.longest} bytes together")
        if answers.missing > 1 and self.held.size and self.held.size + size > self._most_held:
            raise TooLarge(f"unfinished batches {self._over}")

    def _item(self, frame: Frame) -> None:
        found = self._open.get(frame.id)
        if found is None:
            return
        item = converted(frame.payload, frame.serializer, _JSON, self.limits)
        told = b'{"jsonrpc":"2.0","method":"rpc.item","params":{"id":%b,"item":%b}}'
        self._to_peer(told % (found.request.id, item))
        found.owed += HEADER_BASE + len(frame.payload)
        if not self.is_paused:
            self._grant(frame.id, found)

    def _grant(self, number: int, found: _Open) -> None:
        if found.owed * 2 >= self.limits.window:
            self._frame(Kind.CREDIT, number, arg=found.owed)
            found.owed = 0

    def _ask(self, frame: Frame, name: bytes) -> None:
        if not self._can_push:
            raise MethodNotFound("who speaks HTTP can't be called")
        params = params_of(frame, _JSON, self.name, self.limits)
        text = b'{"jsonrpc":"2.0","method":%b,"params":%b' % (json_of(name.decode()), params)
        if frame.oneway:
            self._to_peer(text + b"}")
            return
        self._last_asked = frame.id
        self._asked[frame.id] = frame.serializer or _JSON
        self._to_peer(text + b',"id":%d}' % frame.id)

    def _forget(self, id: int) -> None:
        if self._asked.pop(id, None) is not None:
            self._late += 1

    def _part(self, status: int, message: str) -> None:
        if self._can_push and not self.is_dialled:
            self._to_peer(nameless(error_object(CODES.get(status, INVALID_REQUEST), message)))


def _nobody(data: bytes) -> None:
    raise AssertionError("there is nobody to tell")


def _named(params: bytes) -> bytes:
    """Return the id that `rpc.cancel` is about: the only argument, by name or position."""
    try:
        return members(params)["id"] if params[:1] == b"{" else b"".join(elements(params)[:1])
    except MalformedError:
        return b""
