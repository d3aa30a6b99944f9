"""What instrumentors record of people's words is taken out before a span leaves the process.

Instrumentors put guests' texts into spans in many places: exception messages, query strings,
raw paths, literals in statements, prompts in foreign dialects, addresses and user agents. The
rules here stand at the one gate every span passes, the exporter, so that they hold for every
instrumentor, those of others included. What is taken out, by kind:

* ``errors``: messages of exceptions and of status; the type stays, and the stack as file, line
  and function;
* ``urls``: query strings, and every path segment that is not a word of a known API; the route
  template stands for the path of a request;
* ``sql``: literals and parameters;
* ``messages``: prompts, answers, tool arguments and results;
* ``clients``: addresses and user agents of those who call.

``TAXIMETER_CAPTURE_CONTENT`` names the kinds to let through. What a standard variable asks for
explicitly (captured headers, ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``) passes,
and so does what the service itself sets under names of its own. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from taximeter import semconv, sql

KINDS: Final = ("errors", "urls", "sql", "messages", "clients")
CAPTURE: Final = "TAXIMETER_CAPTURE_CONTENT"
#: Where our own record of an exception leaves its stack, free of messages.
FRAMES: Final = "taximeter.frames"
MAX_FRAMES: Final = 50
_MAX_SUSPECTS: Final = 4096

_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "errors": ("exception.message", "exception.stacktrace", "error.message", "error.stack"),
    "urls": ("url.query", "url.fragment"),
    "sql": ("db.statement.parameters",),
    "messages": (
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.event.content", "gen_ai.request.stop_sequences"),
        *("gen_ai.tool.definitions", "gen_ai.tool.description", "gen_ai.tool.call.arguments"),
        *("gen_ai.tool.call.result", "gen_ai.retrieval.query.text", "gen_ai.retrieval.documents"),
        *("gen_ai.evaluation.explanation", "input.value", "output.value", "llm.tools"),
        *("llm.invocation_parameters", "llm.function_call", "tool.parameters"),
        *("traceloop.entity.input", "traceloop.entity.output", "ai.prompt", "ai.response.text"),
        *("request_data", "response_data"),  # Logfire's
    ),
    "clients": (
        *("client.address", "client.port", "user_agent.original", "http.user_agent", "http.client_ip"),
        *("http.request.method_original", "http.host", "http.server_name"),
    ),
}
_PREFIXES: Final[dict[str, tuple[str, ...]]] = {
    "sql": ("db.query.parameter.", "db.operation.parameter."),
    "messages": (
        *("gen_ai.prompt.", "gen_ai.completion.", "gen_ai.content.", "llm.prompts", "llm.completions"),
        *("llm.input_messages", "llm.output_messages", "llm.prompt_template", "embedding.embeddings"),
        *("embedding.text", "retrieval.documents", "reranker.", "message.content", "ai.prompt."),
        *("ai.toolCall.", "ai.response.object"),
    ),
}
#: On the server's side the peer is the guest; on the client's it is the service that is called.
_PEER: Final = ("network.peer.address", "network.peer.port", "net.peer.ip", "net.sock.peer.addr")
_STATEMENTS: Final = (semconv.DB_QUERY_TEXT, "db.statement")
_URLS: Final = ("url.full", "http.url")
_PATHS: Final = (semconv.URL_PATH, "http.target")
_NOT_SQL: Final = frozenset({"redis", "memcached", "mongodb", "elasticsearch", "opensearch", "aws.dynamodb"})
#: Where "a text" is a string, not a name: only the verb is certain to be no guest's.
_QUOTES_DIFFER: Final = frozenset({"mysql", "mariadb"})

_API_WORDS: Final = frozenset(
    (
        *("api", "audio", "batches", "beta", "chat", "completions", "converse", "count_tokens"),
        *("deployments", "embed", "embeddings", "generate", "graphql", "health", "images", "invoke"),
        *("messages", "models", "openai", "rerank", "responses", "rest", "rpc", "speech", "transcriptions"),
    )
)
_VERSION: Final = re.compile(r"v\d{1,3}(?:(?:alpha|beta)\d{0,2})?")
_FRAME: Final = re.compile(r'  File "[^"\n]*", line \d+, in [\w.<>]+')
_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def captured(environ: Mapping[str, str] | None = None) -> tuple[frozenset[str], str | None]:
    """The kinds of content to let through, and what is wrong with the setting, if anything."""
    environ = os.environ if environ is None else environ
    words = {word.strip().lower() for word in environ.get(CAPTURE, "").split(",")} - {""}
    unknown = words - {*KINDS, "all"}
    kinds = set(KINDS) if "all" in words else words - unknown
    standard = environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower()
    if standard not in {"", "false", "no_content"}:
        kinds.add("messages")
    problem = None
    if unknown:
        problem = (
            f"{CAPTURE} names {', '.join(map(repr, sorted(unknown)))}, which is no kind of content and is "
            f"ignored: use a comma-separated list of {', '.join(KINDS)}, or all."
        )
    return frozenset(kinds), problem


class Redactor:
    """The rules in force, for the attributes of spans and of their events."""

    def __init__(self, capture: frozenset[str] = frozenset()) -> None:
        self.capture = capture
        kept = [kind for kind in KINDS if kind not in capture]
        self._dropped = frozenset(name for kind in kept for name in _ATTRIBUTES[kind])
        self._prefixes = tuple(prefix for kind in kept for prefix in _PREFIXES.get(kind, ()))
        changed = [*_STATEMENTS] if "sql" in kept else []
        changed += [*_URLS, *_PATHS] if "urls" in kept else []
        self._changed = frozenset(changed)
        self._peer = frozenset(_PEER) if "clients" in kept else frozenset()
        self._suspects: dict[str, bool] = {}  # names seen: whether there is a rule about them
        self._clean: set[str] = set()  # those about which there is none

    def attributes(self, given: Mapping[str, Any], *, server: bool = False) -> Mapping[str, Any]:
        """``given`` without content: the same object where there is none."""
        if self._clean.issuperset(given):
            return given
        suspects = self._suspects
        found = None
        for key in given:
            suspect = suspects.get(key)
            if suspect is None:
                suspect = self._suspect(key)
            if suspect:
                found = [key] if found is None else [*found, key]
        if found is None:
            return given
        clean: dict[str, Any] | None = None
        for key in found:
            value = given[key]
            if key in self._changed:
                kept = _reduced(key, value, given)
                if kept == value:
                    continue  # it was clean
            elif key in self._peer and not server:
                continue
            else:
                kept = None
            clean = dict(given) if clean is None else clean
            del clean[key]
            if key == FRAMES:
                clean["exception.stacktrace"] = value
            elif kept is not None:
                clean[key] = kept
        return given if clean is None else clean

    def _suspect(self, key: str) -> bool:
        suspect = (
            key in self._dropped
            or key in self._changed
            or key in self._peer
            or key == FRAMES
            or bool(self._prefixes and key.startswith(self._prefixes))
        )
        if len(self._suspects) < _MAX_SUSPECTS:
            self._suspects[key] = suspect
            if not suspect:
                self._clean.add(key)
        return suspect

    def description(self, description: str | None, attributes: Mapping[str, Any]) -> str | None:
        """What a span's status may say: the type of the error."""
        if description is None or "errors" in self.capture:
            return description
        kind = attributes.get(semconv.ERROR_TYPE)
        return kind if isinstance(kind, str) else None


def _reduced(key: str, value: Any, given: Mapping[str, Any]) -> str | None:
    if not isinstance(value, str):
        return None
    if key in _STATEMENTS:
        system = given.get(semconv.DB_SYSTEM_NAME, given.get("db.system"))
        if system in _NOT_SQL:
            return value.partition(" ")[0][:32]
        statement = sql.describe(value)
        return statement.operation if system in _QUOTES_DIFFER else statement.text
    if key in _URLS:
        return url(value)
    route = given.get(semconv.HTTP_ROUTE)
    return route if isinstance(route, str) else None


def url(address: str) -> str:
    """``address`` without user, query and fragment, its path reduced to the words of known APIs."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "*"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{path(parts.path)}"


def path(text: str) -> str:
    """Each segment of ``text`` that is no version, and no word of a known API, as ``*``.

    The tables and functions of a PostgREST address (``/rest/v1/guests``) are kept.
    """
    segments = text[:1024].split("/")
    kept = [
        word if word == "" or word in _API_WORDS or _VERSION.fullmatch(word) else "*" for word in segments
    ]
    if segments[1:3] == ["rest", "v1"]:
        place = 4 if segments[3:4] == ["rpc"] else 3
        if len(segments) == place + 1 and _IDENTIFIER.fullmatch(segments[place]):
            kept[place] = segments[place]
    return "/".join(kept)


def frames(error: BaseException) -> str:
    """The stack of ``error`` as file, line and function, without a word of its message."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_qualname}')
        trace = trace.tb_next
    return "\n".join(("Traceback (most recent call last):", *lines[-MAX_FRAMES:], type_name(error)))


def stack(text: str) -> str:
    """The frames of a formatted traceback: file, line and function, no code and no message."""
    return "\n".join([line for line in text.splitlines() if _FRAME.fullmatch(line)][-MAX_FRAMES:])


def type_name(error: BaseException) -> str:
    """The full name of the type of ``error``, as the conventions want it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def exception_event(error: BaseException, given: Mapping[str, Any] | None) -> MutableMapping[str, Any]:
    """The attributes of the event that records ``error``, without its message."""
    return {"exception.type": type_name(error), FRAMES: frames(error), **(given or {})}
