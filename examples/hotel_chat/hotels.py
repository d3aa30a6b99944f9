"""Hotels: list, information, policies, and the service's own health."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from .services import Row
from .tenancy import Shared, Slug, page

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive; asks nobody else."""
    return {"status": "ok"}


@router.get("/hotels")
async def list_hotels(services: Shared) -> list[Row]:
    statement = "SELECT slug, name, city, stars FROM hotels ORDER BY slug"
    found: list[Row] = await services.page("hotels", "", lambda: services.rows(statement))
    return found


@router.get("/hotels/{hotel}")
async def information(services: Shared, slug: Slug) -> dict[str, Any]:
    """The hotel's page; three questions in a row (weakness 4), never cached (weakness 10)."""
    rooms = "SELECT count(*) AS rooms, min(base_price) AS from_price FROM rooms WHERE hotel_id = %s"
    highlights = "SELECT source, body FROM content_chunks WHERE hotel_id = %s ORDER BY id LIMIT 5"

    async def read(hotel: Row) -> dict[str, Any]:
        numbers, texts = await services.together(
            services.row(rooms, hotel["id"]), services.rows(highlights, hotel["id"])
        )
        return {**hotel, **(numbers or {}), "highlights": texts}

    found: dict[str, Any] = await page(services, "hotel", slug, read)
    return found


@router.get("/hotels/{hotel}/policies")
async def policies(services: Shared, slug: Slug) -> list[Row]:
    statement = "SELECT title, body FROM policies WHERE hotel_id = %s ORDER BY id"
    found: list[Row] = await page(
        services, "policies", slug, lambda hotel: services.rows(statement, hotel["id"])
    )
    return found
