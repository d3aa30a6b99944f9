"""Rooms: list, details, and what is free."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from .services import Row
from .tenancy import Hotel, Shared, Slug, page

router = APIRouter(prefix="/hotels/{hotel}")

_ROOMS = "SELECT id, number, kind, max_guests, base_price FROM rooms WHERE hotel_id = %s ORDER BY number"
_PRICES = (
    "SELECT room_id, max(price) AS price FROM room_rates "
    "WHERE room_id IN (SELECT id FROM rooms WHERE hotel_id = %s) GROUP BY room_id"
)
_CANCELLATION = "SELECT body FROM policies WHERE hotel_id = %s AND title = 'Cancellation'"
_RATES = "SELECT room_id, season, price FROM room_rates WHERE room_id = %s ORDER BY season"


@router.get("/rooms")
async def list_rooms(services: Shared, slug: Slug) -> list[Row]:
    """Rooms with their base price; under ``fault.n_plus_one_rooms`` with a statement per room."""
    rooms: list[Row] = await page(services, "rooms", slug, lambda hotel: services.rows(_ROOMS, hotel["id"]))
    if services.flags["fault.n_plus_one_rooms"]:
        return [{**room, "rates": await services.rows(_RATES, room["id"])} for room in rooms]
    return rooms


@router.get("/rooms/{room}")
async def room_detail(services: Shared, hotel: Hotel, room: str) -> dict[str, Any]:
    """One room; its rates and bookings asked for one after the other (weakness 4)."""
    found = await services.page(
        "room",
        f"{hotel['slug']} {room}",
        lambda: services.row("SELECT * FROM rooms WHERE hotel_id = %s AND number = %s", hotel["id"], room),
    )
    if found is None:
        raise HTTPException(404, f"{hotel['slug']} has no room {room!r}")
    rates, bookings = await services.together(
        services.page("rates", str(found["id"]), lambda: services.rows(_RATES, found["id"])),
        services.rows(
            "SELECT check_in, check_out FROM reservations WHERE room_id = %s AND status <> 'cancelled' "
            "ORDER BY check_in DESC LIMIT 20",
            found["id"],
        ),
    )
    return {**found, "rates": rates, "bookings": bookings}


@router.get("/availability")
async def availability(
    services: Shared,
    hotel: Hotel,
    start: Annotated[date, Query(alias="from")],
    end: Annotated[date, Query(alias="to")],
) -> dict[str, Any]:
    """Free rooms of a stay. Four independent questions, asked in a row (weakness 4)."""
    if end <= start:
        raise HTTPException(422, f"'to' ({end}) must be after 'from' ({start})")
    slug = hotel["slug"]
    rooms, taken, rates, policy = await services.together(
        services.page("rooms", slug, lambda: services.rows(_ROOMS, hotel["id"])),
        services.rows(
            "SELECT DISTINCT room_id FROM reservations WHERE hotel_id = %s AND status <> 'cancelled' "
            "AND check_in < %s AND check_out > %s",
            *(hotel["id"], end, start),
        ),
        services.page("prices", slug, lambda: services.rows(_PRICES, hotel["id"])),
        services.page("cancellation", slug, lambda: services.row(_CANCELLATION, hotel["id"])),
    )
    busy = {row["room_id"] for row in taken}
    price = {row["room_id"]: row["price"] for row in rates}
    free = [{**room, "price": price.get(room["id"])} for room in rooms if room["id"] not in busy]
    return {"free": free, "nights": (end - start).days, "cancellation": policy and policy["body"]}
