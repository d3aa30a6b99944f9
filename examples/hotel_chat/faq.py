"""Frequently asked questions: the list, and search by meaning."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from .services import Row, Services
from .tenancy import Hotel, Shared, Slug, page

router = APIRouter(prefix="/hotels/{hotel}")

_MATCH = "SELECT question, answer, similarity FROM match_faq(%s::vector, %s, %s)"
_NEAR = "SELECT question, answer, similarity FROM near_faq(%s::vector, %s, %s)"


@router.get("/faq")
async def list_faq(services: Shared, slug: Slug) -> list[Row]:
    statement = "SELECT question, answer FROM faq WHERE hotel_id = %s ORDER BY id"
    found: list[Row] = await page(services, "faq", slug, lambda hotel: services.rows(statement, hotel["id"]))
    return found


@router.get("/faq/search")
async def search_faq(
    services: Shared, hotel: Hotel, q: Annotated[str, Query(min_length=2, max_length=500)]
) -> list[Row]:
    vector = await services.embedder.embed(q)
    return await nearest_faq(services, vector, hotel, 5)


async def nearest_faq(services: Services, vector: str, hotel: Row, count: int) -> list[Row]:
    """The hotel's questions that are nearest to a vector; by ``near_faq`` with ``fix.match_functions``."""
    if services.flags["fix.match_functions"]:
        return await services.rows(_NEAR, vector, hotel["id"], count)
    return await services.rows(_MATCH, vector, hotel["slug"], count)
