"""Frequently asked questions: the list, and search by meaning."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from .services import Row
from .tenancy import Hotel, Shared

router = APIRouter(prefix="/hotels/{hotel}")

MATCH_FAQ = "SELECT question, answer, similarity FROM match_faq(%s::vector, %s, %s)"


@router.get("/faq")
async def list_faq(services: Shared, hotel: Hotel) -> list[Row]:
    statement = "SELECT question, answer FROM faq WHERE hotel_id = %s ORDER BY id"
    found: list[Row] = await services.page(
        "faq", hotel["slug"], lambda: services.rows(statement, hotel["id"])
    )
    return found


@router.get("/faq/search")
async def search_faq(
    services: Shared, hotel: Hotel, q: Annotated[str, Query(min_length=2, max_length=500)]
) -> list[Row]:
    vector = await services.embedder.embed(q)
    return await services.rows(MATCH_FAQ, vector, hotel["slug"], 5)
