"""Who a request is for, when a caller says so: allow-listed W3C baggage.

``TAXIMETER_BAGGAGE`` lists which baggage keys are believed, and as what:
``tenant=hotel.id,feature`` takes the tenant from ``hotel.id`` and the feature from ``feature``.
Nothing else of the baggage is recorded. The service's own ``taximeter.attribute(...)`` wins.
Values are bounded like any label; a service that strangers can reach should list nothing,
or strip baggage at its edge.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final

from opentelemetry import baggage
from opentelemetry.context import Context

from taximeter import account as accounts
from taximeter import guard, meters

KEYS: Final = ("tenant", "feature", "segment")


@cache
def allowed() -> tuple[tuple[str, str], ...]:
    """(attribute, baggage key) of what is believed."""
    found = []
    for each in filter(None, map(str.strip, os.environ.get("TAXIMETER_BAGGAGE", "").split(","))):
        name, _, key = (part.strip() for part in each.partition("="))
        if name in KEYS:
            found.append((name, key or name))
        else:
            guard.note(
                "tenancy",
                f"TAXIMETER_BAGGAGE: {each!r} is left out: {name!r} is none of {', '.join(KEYS)}.",
            )
    return tuple(found)


def from_baggage(account: accounts.Account, context: Context | None = None) -> None:
    """Set what the baggage of ``context`` (the current one by default) says of the request."""
    instruments = meters.get()
    if instruments is None:
        return
    for name, key in allowed():
        if isinstance(value := baggage.get_baggage(key, context), str) and value:
            setattr(account, name, getattr(instruments, name)(value))
