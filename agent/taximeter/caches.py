"""Caches seen by themselves: redis, cachetools, aiocache, and ``functools.lru_cache`` when asked.

Each lookup is counted on the running request by the name of its cache, hit or miss, with the
hash of its key as evidence. Names are few: a redis key's cache is found by its prefix in
``TAXIMETER_REDIS_CACHES``, else it is ``redis`` (a key may hold a guest's name, so no part of it
becomes a label); other caches are named after the code that uses them.

Not seen: pipelines and hashes of redis, and caches used by installed packages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import wrapt

from taximeter import account as accounts
from taximeter import callsite, guard, meters
from taximeter.seen import Seen

_MISSING: Final = object()
_seen: Final = Seen()
#: Set while a cache that itself is counted asks another one: aiocache asks redis.
_within: ContextVar[bool] = ContextVar("taximeter_within_cache", default=False)


def record(name: str, hit: bool, key: object = None) -> None:
    """One lookup, on the running request or outside any."""
    try:
        if (instruments := meters.get()) is not None:
            cache = instruments.cache(name)
            known = key is not None and _seen.before(cache, key)
            accounts.running().cache(cache, hit, key, repeated=hit or known)
    except Exception as error:
        guard.caught("caches.record", error)


def enabled(library: str) -> bool:
    """Whether lookups through ``library`` are counted (``TAXIMETER_CACHES``)."""
    return library in {name.strip() for name in os.environ.get("TAXIMETER_CACHES", "").split(",")}


# --- redis ----------------------------------------------------------------------------


def install_redis() -> None:
    """Count GET, GETEX and MGET of synchronous and asynchronous clients."""
    if not enabled("redis"):
        return
    import redis  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    for owner, name in (
        (redis, "Redis"),
        (redis, "RedisCluster"),
        (redis.asyncio, "Redis"),
        (redis.asyncio, "RedisCluster"),
    ):
        if (cls := getattr(owner, name, None)) is not None:
            wrap = _redis_async if owner is redis.asyncio else _redis
            wrapt.wrap_function_wrapper(cls, "execute_command", wrap)


def _redis(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    answer = wrapped(*args, **kwargs)
    _answered(args, answer)
    return answer


def _redis_async(
    wrapped: Callable[..., Awaitable[Any]], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Awaitable[Any]:
    if not args or args[0] not in _READS:
        return wrapped(*args, **kwargs)

    async def answered() -> Any:
        answer = await wrapped(*args, **kwargs)
        _answered(args, answer)
        return answer

    return answered()


_READS: Final = frozenset({"GET", "GETEX", "MGET"})


def _answered(args: tuple[Any, ...], answer: Any) -> None:
    if len(args) < 2 or args[0] not in _READS or _within.get():
        return
    if args[0] != "MGET":
        _redis_lookup(args[1], answer)
    elif isinstance(answer, list):
        for key, value in zip(args[1:], answer, strict=False):
            _redis_lookup(key, value)


def _redis_lookup(key: Any, value: Any) -> None:
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
    name = next((name for prefix, name in _prefixes() if text.startswith(prefix)), "redis")
    record(name, value is not None, text)


@cache
def _prefixes() -> tuple[tuple[str, str], ...]:
    """(prefix of the key, name of the cache), the longest prefix first."""
    pairs = [each.partition("=") for each in os.environ.get("TAXIMETER_REDIS_CACHES", "").split(",")]
    found = [(prefix.strip(), name.strip()) for name, _, prefix in pairs if name.strip() and prefix.strip()]
    return tuple(sorted(found, key=lambda pair: -len(pair[0])))


# --- aiocache -------------------------------------------------------------------------


def install_aiocache() -> None:
    """Count ``get`` and ``multi_get`` of every backend, by the cache's namespace."""
    if not enabled("aiocache"):
        return
    wrapt.wrap_function_wrapper("aiocache.base", "BaseCache.get", _aiocache)
    wrapt.wrap_function_wrapper("aiocache.base", "BaseCache.multi_get", _aiocache_many)


async def _aiocache(
    wrapped: Callable[..., Awaitable[Any]], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    answer = await _inside(wrapped, args, kwargs)
    default = args[1] if len(args) > 1 else kwargs.get("default")
    key = args[0] if args else kwargs.get("key")
    record(_aiocache_name(instance), answer is not None and answer is not default, key)
    return answer


async def _aiocache_many(
    wrapped: Callable[..., Awaitable[Any]], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    answers = await _inside(wrapped, args, kwargs)
    for key, answer in zip(args[0] if args else kwargs.get("keys", ()), answers, strict=False):
        record(_aiocache_name(instance), answer is not None, key)
    return answers


def _aiocache_name(instance: Any) -> str:
    namespace = getattr(instance, "namespace", None)
    return namespace if isinstance(namespace, str) and namespace else "aiocache"


async def _inside(
    wrapped: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    token = _within.set(True)
    try:
        return await wrapped(*args, **kwargs)
    finally:
        _within.reset(token)


# --- functions that remember: functools.lru_cache, cachetools.cached -------------------


class _Call:
    """One call of a function that remembers; ``missed`` once the function itself had to run."""

    __slots__ = ("missed",)

    def __init__(self) -> None:
        self.missed = False


_call: ContextVar[_Call | None] = ContextVar("taximeter_memo", default=None)


def missing(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, telling the call in progress that it had to run: put the memory around this."""

    def ran(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if (call := _call.get()) is not None:
            call.missed = True
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(function, ran)  # type: ignore[no-any-return, unused-ignore]


def counting(name: str, remembering: Callable[..., Any]) -> Callable[..., Any]:
    """``remembering`` (a memory around :func:`missing`), each of its calls counted as a lookup."""

    def looked(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _Call()
        token = _call.set(call)
        try:
            return wrapped(*args, **kwargs)
        finally:
            _call.reset(token)
            single = len(args) == 1 and not kwargs and isinstance(args[0], str)
            record(name, not call.missed, args[0] if single else [args, kwargs])

    return wrapt.FunctionWrapper(remembering, looked)  # type: ignore[no-any-return, unused-ignore]


def install_cachetools() -> None:
    """Count what ``cachetools.cached`` remembers, and look-ups of the service's own code in a cache."""
    if not enabled("cachetools"):
        return
    import cachetools  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415

    wrapt.wrap_function_wrapper(cachetools, "cached", _cached)
    for cls in {each for each in vars(cachetools).values() if isinstance(each, type)}:
        if issubclass(cls, cachetools.Cache):
            for name, wrap in (("__getitem__", _getitem), ("get", _get)):
                if name in vars(cls):
                    setattr(cls, name, wrap(vars(cls)[name]))


def _cached(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    decorate = wrapped(*args, **kwargs)

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        if callsite.own(sys._getframe(1).f_code) is None:
            return decorate(function)  # type: ignore[no-any-return]  # an installed package's
        name = f"{function.__module__}.{function.__qualname__}"
        return counting(name, decorate(missing(function)))

    return decorator


def _getitem(original: Callable[..., Any]) -> Callable[..., Any]:
    def getitem(self: Any, key: Any, *args: Any) -> Any:
        caller = sys._getframe(1)
        if callsite.own(caller.f_code) is None:
            return original(self, key, *args)
        name = caller.f_globals.get("__name__", "cachetools")
        try:
            value = original(self, key, *args)
        except KeyError:
            record(name, False, key)
            raise
        record(name, True, key)
        return value

    return getitem


def _get(original: Callable[..., Any]) -> Callable[..., Any]:
    def get(self: Any, key: Any, default: Any = None) -> Any:
        caller = sys._getframe(1)
        if callsite.own(caller.f_code) is None:
            return original(self, key, default)
        value = original(self, key, _MISSING)
        record(caller.f_globals.get("__name__", "cachetools"), value is not _MISSING, key)
        return default if value is _MISSING else value

    return get
