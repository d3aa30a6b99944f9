"""The service under test, in whose agent any function can be made to raise, one at a time.

A function of the agent is sabotaged by exchanging its code, so that every reference to it is
hit. It then raises whenever the agent itself calls it; called by the host or an instrumentor
it still runs, since a hook can guard what it does but not that it is called.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import json
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import taximeter
from taximeter import guard
from tests.agent.service import app

#: The last line of defence, and what it uses.
_SPARED = (
    *("taximeter.guard.", "taximeter.redact.frames", "taximeter.redact.type_name"),
    # The host's application runs inside these two.
    *("taximeter.request.AccountMiddleware.__call__", "taximeter.exchange.Exchange.watch"),
)
#: The SDK, where the agent calls it.
_SDK = (
    *("opentelemetry.sdk.trace.Span.", "opentelemetry.sdk.metrics._internal.instrument."),
    *("opentelemetry.sdk.trace.Tracer.start_span", "opentelemetry.trace.get_current_span"),
    *("opentelemetry.context.attach", "opentelemetry.context.get_current"),
)
_originals: dict[str, list[tuple[types.FunctionType, types.CodeType]]] = {}
_called: set[str] = set()
_traps = itertools.count()


class Sabotaged(Exception):
    """What a sabotaged function raises."""


def _functions() -> Iterator[tuple[str, types.FunctionType]]:
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and isinstance(thing.__module__, str):
            if "caught" in thing.__code__.co_names:
                continue  # a guard: what it calls may raise, itself it does not
            name = f"{thing.__module__}.{thing.__code__.co_qualname}"
            if (name.startswith("taximeter.") and not name.startswith(_SPARED)) or name.startswith(_SDK):
                yield name, thing


def _caller_is_ours() -> bool:
    frame: types.FrameType | None = sys._getframe(3)
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    return name.startswith("taximeter.") and name != "taximeter.guard"


_TEMPLATES = {
    "plain": "    def trap(*args, **kwargs):\n{free}        return {hit}(args, kwargs)\n",
    "coroutine": "    async def trap(*args, **kwargs):\n{free}        return await {hit}(args, kwargs)\n",
    "generator": "    def trap(*args, **kwargs):\n{free}        return (yield from {hit}(args, kwargs))\n",
}


def _trap(name: str, function: types.FunctionType, hit: Callable[[str], None]) -> None:
    """Exchange the code of ``function``: ``hit(name)`` runs first when the agent calls it."""
    code = function.__code__
    if code.co_flags & inspect.CO_ASYNC_GENERATOR:
        return
    mark = f"_sabotage_{next(_traps)}"
    copy = types.FunctionType(
        code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__

    def call(args: Any, kwargs: Any) -> Any:
        if _caller_is_ours():
            hit(name)
        return copy(*args, **kwargs)

    function.__globals__[mark] = call
    kind = "plain"
    if code.co_flags & inspect.CO_COROUTINE:
        kind = "coroutine"
    elif code.co_flags & inspect.CO_GENERATOR:
        kind = "generator"
    free = code.co_freevars
    source = "def outer():\n" + "".join(f"    {variable} = None\n" for variable in free)
    uses = "".join(f"        {variable}\n" for variable in free)
    source += _TEMPLATES[kind].format(free=uses, hit=mark) + "    return trap\n"
    space: dict[str, Any] = {}
    exec(source, function.__globals__, space)
    _originals.setdefault(name, []).append((function, code))
    function.__code__ = space["outer"]().__code__


def _restore() -> None:
    for pairs in _originals.values():
        for function, code in pairs:
            function.__code__ = code
    _originals.clear()


def _raise(name: str) -> None:
    raise Sabotaged(name)


@app.get("/said")
async def said() -> str:
    taximeter.record_cache("embeddings", True)
    taximeter.attribute("tenant", "ritz")
    taximeter.attribute("feature", "faq")
    taximeter.attribute("flags", "fix.b, fault.a")
    taximeter.request_account()
    return "ok"


def _control(action: str, name: str) -> Any:
    """``observe``: note from now on which functions of the agent the agent calls; ``called``: which;
    ``sabotage``: make one raise, and nothing else; ``restore``: as before, and the guard's counts."""
    _restore()
    match action:
        case "observe":
            for found, function in list(_functions()):
                _trap(found, function, _called.add)
        case "sabotage":
            for found, function in list(_functions()):
                if found == name:
                    _trap(found, function, _raise)
    return {"called": sorted(_called), "trapped": len(_originals), "counts": guard.counts()}


async def served(scope: Any, receive: Any, send: Any) -> None:
    """The service, with its controls outside of everything that is instrumented."""
    path = scope.get("path", "")
    if not path.startswith("/control/"):
        await app(scope, receive, send)
        return
    body = json.dumps(_control(path.split("/")[2], scope["query_string"].decode())).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
