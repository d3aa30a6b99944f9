"""Dependencies of every route: the shared services, the flags in force, and the tenant hotel."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import psycopg
from fastapi import Depends, HTTPException, Path, Request

import taximeter

from .services import Row, Services


async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    if services.flags.active:
        taximeter.attribute("flags", ",".join(services.flags.active))
    return services


Shared = Annotated[Services, Depends(get_services)]


Slug = Annotated[str, Path(max_length=64, alias="hotel")]


async def get_hotel(services: Shared, hotel: Slug) -> Row:
    """The hotel in the path (read from the database each time: weakness 10). 404 when unknown.

    Only known hotels become tenants, so that strangers cannot invent label values.
    """
    if services.flags["fault.errors"] and random.random() < 0.25:
        await _broken_statement(services)

    async def read() -> Row | None:
        return await services.row("SELECT * FROM hotels WHERE slug = %s", hotel)

    row: Row | None = await (
        services.hotels.get(hotel, read) if services.flags["fix.hotel_cache"] else read()
    )
    if row is None:
        raise HTTPException(404, f"there is no hotel {hotel!r}")
    taximeter.attribute("tenant", hotel)
    return row


async def _broken_statement(services: Services) -> None:
    try:
        await services.row("SELECT no_such_column FROM hotels")
    except psycopg.errors.UndefinedColumn as error:
        raise HTTPException(500, "the hotel cannot be read") from error


Hotel = Annotated[Row, Depends(get_hotel)]


async def page(services: Services, name: str, hotel: str, ask: Callable[[Row], Awaitable[Any]]) -> Any:
    """A page of a hotel : with ``fix.route_cache`` remembered as a whole, the hotel's row too."""

    async def read() -> Any:
        return await ask(await get_hotel(services, hotel))

    found = await services.page(name, hotel, read)
    taximeter.attribute("tenant", hotel)
    return found
