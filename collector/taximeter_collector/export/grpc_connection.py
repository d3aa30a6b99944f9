"""One HTTP/2 connection that carries gRPC calls. The protocol is h2's; these promises are kept here:

* A server that says it goes away (GOAWAY) still answers what it has accepted: h2 takes that word for the end,
  so the frame is not shown to it.
* The server's windows bound what is in flight, and an answer of more than 4 MiB ends the call. h2 keeps the
  windows; frames of data, which cost it 30 us each and say nothing but their length, are written here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

_GOAWAY = 7
_FRAME_HEAD, _FRAME_MOST = 9, 1 << 14
_ANSWER_MOST = 4 << 20
_WRITE_BYTES = 256 << 10
_UNKNOWN, _INTERNAL, _UNAVAILABLE = 2, 13, 14
#: What an answer that is none of gRPC's means, by its HTTP status; as gRPC says.
_BY_HTTP = {400: _INTERNAL, 401: 16, 403: 7, 404: 12, 429: _UNAVAILABLE} | dict.fromkeys((502, 503, 504), 14)


class Lost(Exception):
    """The connection could not be made, or ended before the answer."""


class Refused(Lost):
    """The server has not looked at the call (REFUSED_STREAM): it may be made again at once."""


class Status(NamedTuple):
    """A call's end. ``details``: google.rpc.Status, serialised, where the server sent one."""

    code: int
    message: str
    details: bytes
    body: bytes


class Call:
    """What has come for one call."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.sent = self.answered = False  # to the last byte
        self.ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Status | Lost) -> None:
        if self.ended.done():
            return
        if isinstance(outcome, Lost):
            self.ended.set_exception(outcome)
        else:
            self.ended.set_result(outcome)


class Connection(asyncio.Protocol):
    """One HTTP/2 connection. ``usable``: new calls may be made on it."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._calls: dict[int, Call] = {}
        # Set, and replaced, when a window, a call's end or the transport makes room.
        self._news = asyncio.Event()
        self._writable = True
        self._unread = b""
        self._greeted = False
        self.usable = True

    # --- what the event loop calls -------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(self._without_goaway(data)):
                self._take(event)
        except (H2Error, ValueError) as error:
            self._fail(f"{type(error).__name__}: {error}")
            return
        self._flush()
        self._tell()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended{f' ({exc})' if exc else ''}")

    # --- what calls need -----------------------------------------------------------------

    async def call(self, headers: list[tuple[str, str]], message: bytes) -> Status:
        while self.usable and not self._room():
            await self._news.wait()
        if not self.usable:
            raise Lost("the server goes away")
        number = self._h2.get_next_available_stream_id()
        call = self._calls[number] = Call()
        try:
            self._h2.send_headers(number, headers)
            self._flush()
            await self._send(number, call, message)
            return await call.ended
        finally:
            del self._calls[number]
            if not (call.sent and call.answered) and not self._transport.is_closing():
                with contextlib.suppress(H2Error):  # the server has reset it already
                    self._h2.reset_stream(number, ErrorCodes.CANCEL)
                self._flush()
            self._close_if_left()

    def leave(self, why: str) -> None:
        """No more calls; those under way may end."""
        self.usable = False
        self._close_if_left()

    def _room(self) -> bool:
        """Whether one more call may begin; how many may, a server says as it greets."""
        most = self._h2.remote_settings.max_concurrent_streams
        return self._greeted and self._h2.open_outbound_streams < most

    async def _send(self, number: int, call: Call, message: bytes) -> None:
        data, at = memoryview(message), 0
        while at < len(data) and not call.ended.done():
            room = min(self._h2.local_flow_control_window(number), _WRITE_BYTES, len(data) - at)
            if room <= 0 or not self._writable:
                await self._news.wait()
                continue
            self._h2.outbound_flow_control_window -= room
            self._h2.streams[number].outbound_flow_control_window -= room
            size = self._h2.max_outbound_frame_size
            for begin in range(at, at + room, size):
                part = data[begin : min(begin + size, at + room)]
                self._transport.write(len(part).to_bytes(3) + b"\0\0" + number.to_bytes(4))
                self._transport.write(part)
            at += room
        if not call.ended.done():
            self._h2.end_stream(number)
            call.sent = True
            self._flush()

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.RemoteSettingsChanged):
            self._greeted = True
        call = self._calls.get(getattr(event, "stream_id", None) or 0)
        if call is None:
            return
        if isinstance(event, events.ResponseReceived | events.TrailersReceived):
            call.headers.update(_texts(event.headers))
        elif isinstance(event, events.DataReceived):
            call.body += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if len(call.body) > _ANSWER_MOST:
                call.end(Status(_INTERNAL, f"the answer is longer than {_ANSWER_MOST} bytes", b"", b""))
        elif isinstance(event, events.StreamEnded):
            call.answered = True
            call.end(_status(call))
        elif isinstance(event, events.StreamReset):
            kind = Refused if event.error_code == ErrorCodes.REFUSED_STREAM else Lost
            call.end(kind(f"the server ended the call (HTTP/2 error {int(event.error_code)})"))

    def _without_goaway(self, data: bytes) -> bytes:
        """What came, in whole frames."""
        data = self._unread + data
        at, shown = 0, []
        while len(data) - at >= _FRAME_HEAD:
            length = int.from_bytes(data[at : at + 3])
            end = at + _FRAME_HEAD + length
            if length > _FRAME_MOST:  # h2 would wait for the end of it
                raise ValueError(f"it does not speak HTTP/2 (it sent {data[at : at + 40]!r})")
            if end > len(data):
                break
            if data[at + 3] == _GOAWAY:
                self._go(int.from_bytes(data[at + 9 : at + 13]) & 0x7FFFFFFF)
            else:
                shown.append(data[at:end])
            at = end
        self._unread = data[at:]
        return b"".join(shown)

    def _go(self, last: int) -> None:
        """The server takes no more calls, and has not taken those behind ``last``."""
        self.usable = False
        for number, call in self._calls.items():
            if number > last:
                call.end(Lost("the server goes away"))

    def _fail(self, why: str) -> None:
        self.usable = False
        for call in self._calls.values():
            call.end(Lost(why))
        self._tell()
        self._transport.abort()

    def _close_if_left(self) -> None:
        if not self.usable and not self._calls:
            self._transport.close()

    def _flush(self) -> None:
        pending = self._h2.data_to_send()
        if pending and not self._transport.is_closing():
            self._transport.write(pending)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _texts(headers: Sequence[Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}


def _status(call: Call) -> Status:
    """What an answer says, whole or not."""
    headers = call.headers
    said = headers.get("grpc-status", "")
    if not said.isdigit():
        http = headers.get(":status", "")
        code = _BY_HTTP.get(int(http), _UNKNOWN) if http.isdigit() and http != "200" else _UNKNOWN
        return Status(code, f"the answer is none of gRPC's (HTTP status {http or 'missing'})", b"", b"")
    details = headers.get("grpc-status-details-bin", "")
    try:
        decoded = base64.b64decode(details + "=" * (-len(details) % 4))
    except binascii.Error:
        decoded = b""
    code, message = int(said), unquote(headers.get("grpc-message", ""))
    answer = _message(bytes(call.body)) if code == 0 else b""
    if answer is None:
        return Status(_UNKNOWN, "it answered OK without a readable message", b"", b"")
    return Status(code, message, decoded, answer)


def _message(body: bytes) -> bytes | None:
    """The one message of an answer; None where there is none. Go's server packs as it was sent to."""
    if len(body) < 5 or body[0] > 1 or len(body) - 5 != int.from_bytes(body[1:5]):
        return None
    if not body[0]:
        return body[5:]
    stream = zlib.decompressobj(31)
    try:
        message = stream.decompress(body[5:], _ANSWER_MOST)
    except zlib.error:
        return None
    return message if stream.eof else None
