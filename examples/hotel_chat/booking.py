"""The third-party booking service, called while the guest waits (weakness 11)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, HTTPException, Query

from .tenancy import Hotel, Shared

router = APIRouter(prefix="/hotels/{hotel}/motopress")


async def _answer(call: Awaitable[httpx.Response]) -> dict[str, Any]:
    """The booking service's answer; 502 when it fails or cannot be reached. Never retried."""
    try:
        response = await call
    except httpx.HTTPError as error:
        raise HTTPException(502, f"the booking service cannot be reached: {error}") from None
    if response.is_error:
        raise HTTPException(502, f"the booking service answered {response.status_code}")
    body: dict[str, Any] = response.json()
    return body


@router.get("/quote")
async def quote(
    services: Shared,
    hotel: Hotel,
    room: Annotated[str, Query(max_length=8)],
    nights: Annotated[int, Query(ge=1, le=30)] = 1,
) -> dict[str, Any]:
    """MotoPress's price of a stay."""
    params: dict[str, str | int] = {"hotel": hotel["slug"], "room": room, "nights": nights}

    async def ask() -> dict[str, Any]:
        return await _answer(services.booking.get("/v1/quote", params=params))

    if not services.flags["fix.quote_cache"]:
        return await ask()
    found: dict[str, Any] = await services.quotes.get(f"{hotel['slug']} {room} {nights}", ask)
    return found


@router.post("/sync")
async def sync(services: Shared, hotel: Hotel) -> dict[str, Any]:
    """Push the latest bookings to MotoPress."""
    codes = await services.rows(
        "SELECT code FROM reservations WHERE hotel_id = %s ORDER BY check_in DESC LIMIT 20", hotel["id"]
    )
    body = {"hotel": hotel["slug"], "reservations": [row["code"] for row in codes]}
    return await _answer(services.booking.post("/v1/sync", json=body))
