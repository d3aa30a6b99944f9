"""A tiny stand-in for the model providers' HTTP APIs, with a ledger.

Usage is fixed, so that a test can compute money by hand: see the constants. A model called
``flaky`` is refused once before it answers; ``broken`` is always refused. ``parrot`` answers
with what it was sent, and ``echo`` quotes it in its refusal; ``slow`` streams until its reader
leaves; ``hangs`` answers after 20 seconds.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAT = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
RESPONSE = {
    "input_tokens": 500,
    "output_tokens": 50,
    "total_tokens": 550,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}
EMBEDDING_TOKENS = 10
CHAT_INPUT = 1000
#: Anthropic's input_tokens excludes what was read from and written to the cache.
MESSAGE = {
    "input_tokens": 300,
    "output_tokens": 100,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 500,
}


class Provider:
    """Serves from construction to :meth:`stop` on a free loopback port."""

    def __init__(self) -> None:
        self.ledger: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()  # of input, by x-key
        self.attempts: Counter[str] = Counter()  # by x-key
        self._refused: set[str] = set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                body = self.rfile.read(size)
                if len(body) == size:  # else the caller gave up while it was sending
                    provider._answer(self, json.loads(body))

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024  # of a burst, none waits so long that its caller gives up

            def handle_error(self, *_: Any) -> None:
                if not isinstance(sys.exception(), OSError):  # who hangs up is no news
                    super().handle_error(*_)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        model = body["model"]
        self.ledger["attempts"] += 1
        key = handler.headers.get("x-key", model)
        self.attempts[key] += 1
        if model == "broken" or (model == "flaky" and key not in self._refused):
            self._refused.add(key)
            _send(handler, 500, {"error": {"message": "try again", "type": "server_error"}})
            return
        if model == "echo":
            _send(handler, 400, {"error": {"message": json.dumps(body), "type": "invalid_request_error"}})
            return
        self.ledger[handler.path] += 1
        self.tokens[key] += _input_tokens(handler.path)
        if model == "hangs":
            time.sleep(20)
        stream = body.get("stream", False)
        if handler.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
            usage = {"prompt_tokens": EMBEDDING_TOKENS, "total_tokens": EMBEDDING_TOKENS}
            _send(handler, 200, {"object": "list", "model": model, "data": data, "usage": usage})
        elif handler.path == "/v1/chat/completions":
            if stream:
                _stream(handler, _endless(_chat_events(model, body), model, 0))
            else:
                _send(handler, 200, _chat(model, json.dumps(body) if model == "parrot" else "Hello"))
        elif handler.path == "/v1/responses":
            _send(handler, 200, _response(model))
        elif handler.path == "/v1/messages":
            if stream:
                _stream(handler, _endless(_message_events(model), model, 2))
            else:
                _send(handler, 200, _message(model, "Hello"))
        else:
            _send(handler, 404, {"error": {"message": handler.path}})


def _input_tokens(path: str) -> int:
    return {
        "/v1/embeddings": EMBEDDING_TOKENS,
        "/v1/chat/completions": CHAT_INPUT,
        "/v1/responses": 500,
        "/v1/messages": 2800,
    }.get(path, 0)


def _endless(events: Iterable[str], model: str, repeated: int) -> Iterable[str]:
    """The stream as it is, or, of the slow model, its beginning and then one event for ever."""
    if model != "slow":
        yield from events
        return
    begun = list(itertools.islice(events, repeated + 1))
    yield from begun
    for _ in range(1000):
        time.sleep(0.05)
        yield begun[-1]


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(data)))
    handler.send_header("retry-after-ms", "1")
    try:
        handler.end_headers()
        handler.wfile.write(data)
    except OSError:
        handler.close_connection = True  # the caller left


def _stream(handler: BaseHTTPRequestHandler, events: Iterable[str]) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    handler.close_connection = True
    try:
        for event in events:
            handler.wfile.write(event.encode())
            handler.wfile.flush()
    except OSError:
        return  # the reader left


def _chat(model: str, answer: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": CHAT,
    }


def _chat_events(model: str, body: dict[str, Any]) -> Iterable[str]:
    def chunk(**more: Any) -> str:
        base = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return f"data: {json.dumps({**base, **more})}\n\n"

    for word in ("Hello", " there"):
        yield chunk(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
    yield chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield chunk(choices=[], usage=CHAT)
    yield "data: [DONE]\n\n"


def _response(model: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Hello", "annotations": []}
    output = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": "resp-1",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "completed",
        "output": [output],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSE,
    }


def _message(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "msg-1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "end_turn" if text else None,
        "stop_sequence": None,
        "usage": MESSAGE if text else {**MESSAGE, "output_tokens": 1},
    }


def _message_events(model: str) -> Iterable[str]:
    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    yield event("message_start", message=_message(model, ""))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
    yield event("content_block_stop", index=0)
    yield event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": MESSAGE["output_tokens"]},
    )
    yield event("message_stop")
