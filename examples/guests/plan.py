"""The whole run as a list of requests, made from the seed before the first one is sent.

Arrivals are a Poisson process of the given rate, so the load does not slow down with the service
(only a guest who still waits for an answer holds back their own next request). The same seed, rate
and length give the same requests. Every kind of request occurs in a run of useful length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from . import catalogue
from .catalogue import Hotel


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. ``route`` is the template that should match, "" for none."""

    method: str
    route: str
    path: str
    hotel: str  # "" when the request is about no hotel that exists
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A request with its sender and its time in seconds from the start."""

    at_s: float
    guest: int
    request: Request


@dataclass(slots=True)
class Guest:
    """One guest: a hotel, and a conversation that goes on for some messages."""

    number: int
    hotel: Hotel
    run: str
    conversations: int = 0

    def conversation(self, rng: random.Random) -> str:
        if self.conversations == 0 or rng.random() < 0.15:
            self.conversations += 1
        return f"{self.run}-g{self.number}-{self.conversations}"


def _get(route: str, guest: Guest, tail: str = "", query: Mapping[str, object] | None = None) -> Request:
    """GET of ``/hotels/{hotel}<route>``; ``tail`` is the route with its own parameter filled in."""
    path = f"/hotels/{guest.hotel.slug}{tail or route}"
    if query:
        path += "?" + urlencode(query)
    return Request("GET", f"/hotels/{{hotel}}{route}", path, guest.hotel.slug)


def _post(route: str, guest: Guest, body: Mapping[str, Any] | None = None, tail: str = "") -> Request:
    path = f"/hotels/{guest.hotel.slug}{tail or route}"
    return Request("POST", f"/hotels/{{hotel}}{route}", path, guest.hotel.slug, body)


def _chat(rng: random.Random, guest: Guest) -> Request:
    return _post("/chat", guest, {"conversation": guest.conversation(rng), "message": catalogue.ask(rng)})


def _chat_stream(rng: random.Random, guest: Guest) -> Request:
    tier = "vip" if guest.number % 3 == 0 else "standard"
    body = {"conversation": guest.conversation(rng), "message": catalogue.ask(rng), "tier": tier}
    return _post("/chat/stream", guest, body)


def _availability(rng: random.Random, guest: Guest) -> Request:
    start = date(2026, 1, 1) + timedelta(days=rng.randrange(350))
    end = start + timedelta(days=rng.randint(1, 7))
    return _get("/availability", guest, query={"from": start, "to": end})


def _reservation(rng: random.Random, guest: Guest) -> Request:
    number = rng.randint(1, catalogue.KNOWN_RESERVATIONS)
    code = f"{guest.hotel.code_prefix}-{number:05d}"
    return _get("/reservations/{code}", guest, f"/reservations/{code}")


def _book(rng: random.Random, guest: Guest) -> Request:
    check_in = date(2028, 1, 1) + timedelta(days=rng.randrange(3000))
    body = {
        "room": rng.choice(catalogue.ROOMS),
        "guest": f"Guest {guest.number}",
        "email": f"guest{guest.number}@example.com",
        "check_in": check_in.isoformat(),
        "nights": rng.randint(1, 5),
    }
    return _post("/reservations", guest, body)


def _past(rng: random.Random, guest: Guest) -> str:
    return f"past-{guest.hotel.code_prefix}-{rng.randrange(catalogue.PAST_CONVERSATIONS):03d}"


def _conversation(rng: random.Random, guest: Guest) -> Request:
    return _get("/conversations/{conversation}", guest, f"/conversations/{_past(rng, guest)}")


def _summary(rng: random.Random, guest: Guest) -> Request:
    tail = f"/conversations/{_past(rng, guest)}/summary"
    return _post("/conversations/{conversation}/summary", guest, tail=tail)


def _stay(rng: random.Random) -> dict[str, Any]:
    return {"interests": rng.choice(catalogue.INTERESTS), "days": rng.randint(1, 4)}


def _quote(rng: random.Random, guest: Guest) -> Request:
    query = {"room": rng.choice(catalogue.ROOMS), "nights": rng.randint(1, 7)}
    return _get("/motopress/quote", guest, query=query)


def _not_found(rng: random.Random, guest: Guest) -> Request:
    dice = rng.random()
    if dice < 0.5:
        return _get("/reservations/{code}", guest, f"/reservations/NONE-{rng.randrange(100):02d}")
    if dice < 0.65:
        return Request("GET", "/hotels/{hotel}", "/hotels/hotel-california", "")
    path = rng.choice(("/robots.txt", "/wp-login.php", f"/hotels/{guest.hotel.slug}/minibar"))
    return Request("GET", "", path, "")


def _invalid(rng: random.Random, guest: Guest) -> Request:
    if rng.random() < 0.5:
        return _get("/availability", guest, query={"from": "tomorrow"})
    return _post("/chat", guest, {"conversation": guest.conversation(rng), "message": ""})


def _occupancy(rng: random.Random, guest: Guest) -> Request:
    return _get("/admin/occupancy", guest)


_Maker = Callable[[random.Random, Guest], Request]

#: kind -> (weight in per cent, what makes one)
MIX: dict[str, tuple[float, _Maker]] = {
    "chat": (15.0, _chat),
    "chat stream": (8.0, _chat_stream),
    "faq search": (14.0, lambda rng, guest: _get("/faq/search", guest, query={"q": catalogue.ask(rng)})),
    "faq": (5.0, lambda rng, guest: _get("/faq", guest)),
    "rooms": (9.0, lambda rng, guest: _get("/rooms", guest)),
    "room": (
        7.0,
        lambda rng, guest: _get("/rooms/{room}", guest, f"/rooms/{rng.choice(catalogue.ROOMS)}"),
    ),
    "availability": (9.0, _availability),
    "reservations": (4.0, lambda rng, guest: _get("/reservations", guest)),
    "reservation": (7.0, _reservation),
    "book": (3.0, _book),
    "hotel": (5.0, lambda rng, guest: _get("", guest)),
    "hotels": (2.0, lambda rng, guest: Request("GET", "/hotels", "/hotels", "")),
    "policies": (2.5, lambda rng, guest: _get("/policies", guest)),
    "conversation": (1.5, _conversation),
    "summary": (0.8, _summary),
    "recommendations": (1.5, lambda rng, guest: _post("/recommendations", guest, _stay(rng))),
    "itinerary": (1.0, lambda rng, guest: _post("/itinerary", guest, _stay(rng))),
    "quote": (1.5, _quote),
    "sync": (0.4, lambda rng, guest: _post("/motopress/sync", guest)),
    "stats": (0.6, lambda rng, guest: _get("/admin/stats", guest)),
    "flags": (0.2, lambda rng, guest: Request("GET", "/admin/flags", "/admin/flags", "")),
    "health": (0.5, lambda rng, guest: Request("GET", "/health", "/health", "")),
    "not found": (1.5, _not_found),
    "invalid": (1.0, _invalid),
}
#: The slow report: not by weight, but so many times in a run, spread evenly.
_OCCUPANCY_PER_RUN = 3


def make_plan(
    *,
    seed: int,
    guests: int,
    rate: float,
    duration_s: float,
    requests: int | None = None,
    spread: float = 0.0,
) -> list[Planned]:
    """The run's requests in order of time: for ``duration_s`` seconds, or exactly ``requests``.

    ``spread`` makes another mix of kinds and hotels: each weight times a lognormal number of that sigma.
    """
    rng = random.Random(f"{seed}:plan")
    arrivals = _arrivals(rng, rate, duration_s, requests)
    other = random.Random(f"{seed}:mix")
    weights = [hotel.weight * other.lognormvariate(0, spread) for hotel in catalogue.HOTELS]
    mix = [weight * other.lognormvariate(0, spread) for weight, _ in MIX.values()]
    people = [
        Guest(number, rng.choices(catalogue.HOTELS, weights)[0], f"s{seed}") for number in range(guests)
    ]
    kinds = rng.choices(list(MIX), mix, k=len(arrivals))
    _sow(kinds, list(MIX))
    occupancy = set(_spread(len(kinds), _OCCUPANCY_PER_RUN))
    plan = []
    for index, (at_s, kind) in enumerate(zip(arrivals, kinds, strict=True)):
        guest = rng.choice(people)
        make = _occupancy if index in occupancy else MIX[kind][1]
        plan.append(Planned(at_s, guest.number, make(rng, guest)))
    return plan


def _arrivals(rng: random.Random, rate: float, duration_s: float, requests: int | None) -> list[float]:
    arrivals: list[float] = []
    now = rng.expovariate(rate)
    while len(arrivals) < requests if requests is not None else now < duration_s:
        arrivals.append(now)
        now += rng.expovariate(rate)
    return arrivals


def _spread(length: int, parts: int) -> list[int]:
    """``parts`` indices below ``length``, evenly apart; none when they would crowd out the rest."""
    if length < 10 * parts:
        return []
    return [length * (2 * part + 1) // (2 * parts) for part in range(parts)]


def _sow(kinds: list[str], every: list[str]) -> None:
    """Make sure that each kind occurs, where the run is long enough for that to change little."""
    if len(kinds) < 4 * len(every):
        return
    for index, kind in zip(_spread(len(kinds) * 10, len(every)), every, strict=True):
        kinds[index // 10] = kind
