"""Hotels: list, information, policies, and the service's own health."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from .services import Row
from .tenancy import Hotel, Shared

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive; asks nobody else."""
    return {"status": "ok"}


@router.get("/hotels")
async def list_hotels(services: Shared) -> list[Row]:
    return await services.rows("SELECT slug, name, city, stars FROM hotels ORDER BY slug")


@router.get("/hotels/{hotel}")
async def information(services: Shared, hotel: Hotel) -> dict[str, Any]:
    """The hotel's page; three questions in a row (weakness 4), never cached (weakness 10)."""
    rooms = await services.row(
        "SELECT count(*) AS rooms, min(base_price) AS from_price FROM rooms WHERE hotel_id = %s", hotel["id"]
    )
    highlights = await services.rows(
        "SELECT source, body FROM content_chunks WHERE hotel_id = %s ORDER BY id LIMIT 5", hotel["id"]
    )
    return {**hotel, **(rooms or {}), "highlights": highlights}


@router.get("/hotels/{hotel}/policies")
async def policies(services: Shared, hotel: Hotel) -> list[Row]:
    return await services.rows(
        "SELECT title, body FROM policies WHERE hotel_id = %s ORDER BY id", hotel["id"]
    )
