"""Taximeter: the meter on every request.

What a service may say to its meter. Everything here is a no-op where the agent does not run
(started without ``opentelemetry-instrument``), imports nothing heavy, and never raises
because of the agent::

    import taximeter

    taximeter.attribute("tenant", hotel)        # a label of money
    taximeter.record_cache("embeddings", hit)   # one lookup in a cache of yours
    account = taximeter.request_account()       # what this request has caused so far
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taximeter.account import Account

__version__: Final = "0.1.0"
__all__ = ["__version__", "attribute", "record_cache", "request_account"]

_KEYS: Final = ("tenant", "feature", "flags")


def attribute(key: str, value: object) -> None:
    """Say who or what the running request is for.

    ``key`` is ``"tenant"``, ``"feature"`` or ``"flags"`` (comma-separated names of what is
    switched on; sorted here). Values are cut to 128 characters, and beyond
    ``TAXIMETER_LABEL_LIMIT`` distinct ones a tenant or feature becomes ``other``. Outside a
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
        account.flags = ",".join(names)[: labels.MAX_LENGTH]
        return
    instruments = meters.get()
    if instruments is not None:
        setattr(account, key, getattr(instruments, key)(value))


def record_cache(name: str, hit: bool) -> None:
    """Count one lookup in the service's own cache called ``name``, and whether it hit.

    Counted on the running request, or without a route outside any request.
    """
    from taximeter import account as accounts  # noqa: PLC0415

    account = accounts.current.get()
    if account is None and accounts.OUTSIDE.late is None:
        return  # no agent
    from taximeter import meters  # noqa: PLC0415

    if (instruments := meters.get()) is not None:
        (account or accounts.OUTSIDE).cache(instruments.cache(name), bool(hit))


def request_account() -> Account | None:
    """The account of the running request, or ``None`` outside one or without the agent."""
    from taximeter import account as accounts  # noqa: PLC0415

    return accounts.current.get()
