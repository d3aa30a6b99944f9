"""Taximeter: the meter on every request.

What a service may say to its meter. Everything here is a no-op where the agent does not run
(started without ``opentelemetry-instrument``), imports nothing heavy, and never raises
because of the agent::

    import taximeter

    taximeter.attribute("tenant", hotel)        # a label of money
    taximeter.record_cache("embeddings", hit, key=text)  # one lookup in a cache of yours
    taximeter.record_model_call(answer, provider="openai")  # one answer of a batch
    account = taximeter.request_account()       # what this request has caused so far
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from taximeter.account import Account

__version__: Final = "0.1.0"
__all__ = [
    "__version__",
    "attribute",
    "record_cache",
    "record_model_call",
    "request_account",
    "watch_cache",
]

F = TypeVar("F", bound="Callable[..., Any]")

_KEYS: Final = ("tenant", "feature", "segment", "flags")


def attribute(key: str, value: object) -> None:
    """Say who or what the running request is for.

    ``key`` is ``"tenant"``, ``"feature"``, ``"segment"`` (of users) or ``"flags"`` (names of what is
    switched on, comma-separated; sorted here, 512 characters). Other values are cut to 128, and beyond
    ``TAXIMETER_LABEL_LIMIT`` distinct ones a tenant, feature or segment becomes ``other``. Outside a
    request nothing happens. Raises :class:`ValueError` on another key: that is a typing error.
    """
    if key not in _KEYS:
        raise ValueError(f"unknown attribute {key!r}: use one of {', '.join(map(repr, _KEYS))}")
    account = request_account()
    if account is None or value is None:
        return
    from taximeter import labels, meters  # noqa: PLC0415  (loaded already where an account exists)

    if key == "flags":
        names = sorted({name.strip() for name in str(value).split(",")} - {""})
        account.flags = ",".join(names)[: 4 * labels.MAX_LENGTH]
        return
    instruments = meters.get()
    if instruments is not None:
        setattr(account, key, getattr(instruments, key)(value))


def record_cache(name: str, hit: bool, key: object = None) -> None:
    """Count one lookup in the service's own cache called ``name``, and whether it hit.

    ``key``, where given, is what was looked up (a text, or plain values); only its keyed hash is
    recorded, from which the advisor computes what another size of the cache would have hit.
    Counted on the running request, or without a route outside any request.
    """
    from taximeter import account as accounts  # noqa: PLC0415

    if accounts.current.get() is None and accounts.OUTSIDE.late is None:
        return  # no agent
    from taximeter import caches  # noqa: PLC0415

    caches.record(name, bool(hit), key)


def record_model_call(
    response: object,
    *,
    provider: str,
    model: str | None = None,
    tier: str = "batch",
    operation: str = "chat",
) -> float | None:
    """Count and price one model call that no instrumentor saw: by default, one answer of a batch.

    ``response`` is the provider's answer as its SDK or parsed JSON gives it (of OpenAI's batch output
    ``line["response"]["body"]``, of Anthropic's ``result.message``); only its usage is read. ``provider``
    is OpenTelemetry's name (``openai``, ``anthropic``, ``gcp.gemini``, ...), ``model`` what was asked for,
    where the answer does not say, ``tier`` ``""`` for the standard price, and ``operation``
    ``"embeddings"`` where it was one. Returns the cost in USD, ``None`` where it is not known or there is no
    agent. Call it once an answer.
    """
    from taximeter import account as accounts  # noqa: PLC0415

    if accounts.OUTSIDE.late is None:
        return None  # no agent
    from taximeter import distro, guard, told  # noqa: PLC0415

    try:
        return told.record(
            distro.prices(), response, provider=provider, model=model, tier=tier, operation=operation
        )
    except Exception as error:
        guard.caught("told.record", error)
        return None


def watch_cache(name: str) -> Callable[[F], F]:
    """A decorator above ``functools.lru_cache``: each call counts as a lookup in the cache ``name``::

        @taximeter.watch_cache("policies")
        @functools.lru_cache(maxsize=100)
        def policy(hotel: str) -> str: ...

    A new memory of the same size is made around the function, so decorate at once, not later.
    Without the agent the function is returned as it is.
    """

    def decorate(function: F) -> F:
        from taximeter import account as accounts  # noqa: PLC0415

        parameters = getattr(function, "cache_parameters", None)
        if parameters is None or not hasattr(function, "__wrapped__"):
            raise TypeError(f"watch_cache({name!r}): {function!r} is no functools.lru_cache; decorate one")
        if accounts.OUTSIDE.late is None:
            return function  # no agent
        from functools import lru_cache  # noqa: PLC0415

        from taximeter import caches  # noqa: PLC0415

        watched = caches.counting(name, lru_cache(**parameters())(caches.missing(function.__wrapped__)))
        return cast("F", watched)

    return decorate


def request_account() -> Account | None:
    """The account of the running request, or ``None`` outside one or without the agent."""
    from taximeter import account as accounts  # noqa: PLC0415

    return accounts.current.get()
