"""For the staff: statistics, the slow occupancy report, and the flags."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import StrictBool

from .flags import UnknownFlag
from .services import Row
from .tenancy import Hotel, Shared

router = APIRouter()

# For every room and day a scan of all reservations, since neither room nor date has an index.
_OCCUPANCY = """
    SELECT day::date AS day, count(*) AS rooms, sum(taken) AS occupied
    FROM (
        SELECT day,
               (SELECT count(*) FROM reservations r
                WHERE r.room_id = m.id AND r.status <> 'cancelled'
                  AND r.check_in <= day::date AND r.check_out > day::date) AS taken
        FROM rooms m
        CROSS JOIN generate_series(date '2026-01-01', date '2026-01-01' + %s::int - 1, interval '1 day') day
        WHERE m.hotel_id = %s
    ) nights
    GROUP BY day ORDER BY day
"""


# The same from the materialised view: what was booked since its last refresh is not in it.
_OCCUPANCY_VIEW = """
    SELECT night::date AS day, (SELECT count(*) FROM rooms WHERE hotel_id = %s) AS rooms,
        coalesce(o.occupied, 0)::numeric AS occupied
    FROM generate_series(date '2026-01-01', date '2026-01-01' + %s::int - 1, interval '1 day') night
    LEFT JOIN occupancy o ON o.hotel_id = %s AND o.day = night::date
    ORDER BY 1
"""


_COUNTS = {
    "reservations": "SELECT count(*) AS n FROM reservations WHERE hotel_id = %s",
    "conversations": "SELECT count(*) AS n FROM conversations WHERE hotel_id = %s",
    "revenue": "SELECT coalesce(sum(total), 0) AS n FROM reservations WHERE hotel_id = %s "
    "AND status <> 'cancelled'",
}
_STATISTICS = """
    SELECT count(*) AS reservations,
        (SELECT count(*) FROM conversations WHERE hotel_id = %s) AS conversations,
        coalesce(sum(total) FILTER (WHERE status <> 'cancelled'), 0) AS revenue
    FROM reservations WHERE hotel_id = %s
"""


@router.get("/hotels/{hotel}/admin/stats")
async def statistics(services: Shared, hotel: Hotel) -> dict[str, Any]:
    """Counts for the dashboard, one statement each, in a row (weakness 4)."""
    if services.flags["fix.stats_query"]:
        return await services.row(_STATISTICS, *[hotel["id"]] * 2) or {}
    rows = await services.together(*(services.row(each, hotel["id"]) for each in _COUNTS.values()))
    return {name: row and row["n"] for name, row in zip(_COUNTS, rows, strict=True)}


@router.get("/hotels/{hotel}/admin/occupancy")
async def occupancy(
    services: Shared, hotel: Hotel, days: Annotated[int, Query(ge=1, le=365)] = 110
) -> list[Row]:
    """Rooms taken per day of the year: one statement, over 2 s at the demo's scale (weakness 2)."""
    if services.flags["fix.occupancy_view"]:
        return await services.rows(_OCCUPANCY_VIEW, hotel["id"], days, hotel["id"])
    return await services.rows(_OCCUPANCY, days, hotel["id"])


@router.get("/admin/flags")
async def list_flags(services: Shared) -> dict[str, Any]:
    return services.flags.as_dict()


@router.post("/admin/flags")
async def switch_flags(services: Shared, changes: dict[str, StrictBool]) -> dict[str, Any]:
    """Switch flags: ``{"fix.batch_reservations": true}``; 422 for one that does not exist."""
    try:
        services.switch(changes)
        await services.resize()
        await services.warm()
    except (UnknownFlag, ValueError) as error:
        raise HTTPException(422, str(error)) from None
    return services.flags.as_dict()
