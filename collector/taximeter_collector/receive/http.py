"""OTLP over HTTP: a plain ASGI application, since a framework would cost more than the work itself."""

from __future__ import annotations

from google.protobuf import json_format

from taximeter_collector.auth import Authenticator
from taximeter_collector.errors import Refusal
from taximeter_collector.listen import App, Receive, Scope, Send, respond
from taximeter_collector.receive.encoding import ENCODINGS, JSON, PROTOBUF, decompress, from_json, too_large
from taximeter_collector.receive.intake import Intake, rpc_status, unauthenticated
from taximeter_collector.signals import Signal

_STATUS = {
    "too_large": 413,
    "encoding": 415,
    "unauthenticated": 401,
}  # of what is refused for good; anything else is 400


def guarded(app: App, authenticator: Authenticator, intake: Intake) -> App:
    """The application behind a gate: who is not let in learns nothing else, and no body is read."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = _headers(scope)
            why = await authenticator.refuse(headers)
            if why:
                await _refuse(send, intake.refused(unauthenticated(why), "http"), _kind(headers))
                return
        await app(scope, receive, send)

    return gate


def otlp_http(intake: Intake, paths: dict[str, Signal], max_body: int) -> App:
    """The application: ``paths`` maps URL paths to signals."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        signal = paths.get(scope["path"])
        if signal is None:
            listed = ", ".join(paths)
            text = f"{scope['path']} is not served here; this receiver takes {listed}\n"
            await respond(send, 404, text.encode(), "text/plain")
            return
        if scope["method"] != "POST":
            await respond(send, 405, b"only POST\n", "text/plain", {"allow": "POST"})
            return
        headers = _headers(scope)
        kind = _kind(headers)
        if kind not in (PROTOBUF, JSON):
            text = f"content-type {kind!r} is not supported; accepted: {PROTOBUF}, {JSON}\n"
            await respond(send, 415, text.encode(), "text/plain", {"accept-encoding": ", ".join(ENCODINGS)})
            return
        try:
            body = await _body(receive, headers, max_body, intake)
            if body is None:
                return  # the sender went away
            try:
                plain = decompress(body, headers.get("content-encoding", "").strip().lower(), max_body)
                plain = from_json(plain, signal.request) if kind == JSON else plain
            except Refusal as refusal:
                raise intake.refused(refusal, "http") from None
            response = await intake.accept(signal, plain, "http")
        except Refusal as refusal:
            await _refuse(send, refusal, kind)
            return
        if kind == JSON:
            response = json_format.MessageToJson(signal.response.FromString(response)).encode()
        await respond(send, 200, response, kind)

    return app


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _kind(headers: dict[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(receive: Receive, headers: dict[str, str], max_body: int, intake: Intake) -> bytes | None:
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > max_body:
        raise intake.refused(too_large(max_body, "body"), "http")
    pieces = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > max_body:
            raise intake.refused(too_large(max_body, "body"), "http")
        if not event.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _refuse(send: Send, refusal: Refusal, kind: str) -> None:
    status = rpc_status(refusal)
    body = json_format.MessageToJson(status).encode() if kind == JSON else status.SerializeToString()
    kind = kind if kind == JSON else PROTOBUF
    if refusal.retryable:
        retry_after = {"retry-after": str(max(1, round(refusal.retry_after_s)))}
        await respond(send, 503, body, kind, retry_after)
    else:
        await respond(send, _STATUS.get(refusal.reason, 400), body, kind)
