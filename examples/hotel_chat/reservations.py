"""Reservations: the list with its N+1, one in detail, and making one."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field

from .services import Row
from .tenancy import Hotel, Shared

router = APIRouter(prefix="/hotels/{hotel}")

Limit = Annotated[int, Query(ge=1, le=50)]


_LISTED = "SELECT code, check_in, check_out, status, total, guest_id, room_id FROM reservations r"
_JOINED = (
    "SELECT r.code, r.check_in, r.check_out, r.status, r.total, g.name AS guest, m.number AS room "
    "FROM reservations r JOIN guests g ON g.id = r.guest_id JOIN rooms m ON m.id = r.room_id"
)
_AFTER = " AND (r.check_in < %s OR (r.check_in = %s AND r.code > %s))"


@router.get("/reservations")
async def list_reservations(
    services: Shared,
    hotel: Hotel,
    response: Response,
    limit: Limit = 10,
    after: Annotated[str | None, Query(pattern=r"^\d{4}-\d\d-\d\d,[\w-]{1,40}$")] = None,
) -> list[Row]:
    """The latest reservations with guest and room: an N+1, or one join (``fix.batch_reservations``).

    With ``fix.pagination`` a full page says in its Link header how to ask for the next: by the last one's day
    and code, so that no page is shifted by a booking that comes meanwhile.
    """
    batched, paged = services.flags["fix.batch_reservations"], services.flags["fix.pagination"]
    if after is not None and not paged:
        raise HTTPException(422, "'after' is for pages: switch fix.pagination on")
    day, _, code = (after or "").partition(",")
    found = await services.rows(
        f"{_JOINED if batched else _LISTED} WHERE r.hotel_id = %s{_AFTER if after else ''} "
        "ORDER BY r.check_in DESC, r.code LIMIT %s",
        *(hotel["id"], *((day, day, code) if after else ()), limit),
    )
    if paged and len(found) == limit:
        last = f"{found[-1]['check_in']},{found[-1]['code']}"
        response.headers["Link"] = f'<?limit={limit}&after={last}>; rel="next"'
    for reservation in () if batched else found:
        guest = await services.row("SELECT name FROM guests WHERE id = %s", reservation.pop("guest_id"))
        room = await services.row("SELECT number FROM rooms WHERE id = %s", reservation.pop("room_id"))
        reservation["guest"] = guest and guest["name"]
        reservation["room"] = room and room["number"]
    return found


@router.get("/reservations/{code}")
async def reservation_detail(services: Shared, hotel: Hotel, code: str) -> dict[str, Any]:
    found = await services.row(
        "SELECT * FROM reservations WHERE hotel_id = %s AND code = %s", hotel["id"], code
    )
    if found is None:
        raise HTTPException(404, f"{hotel['slug']} has no reservation {code!r}")
    guest, room, payments = await services.together(
        services.row("SELECT name, email, country, vip FROM guests WHERE id = %s", found["guest_id"]),
        services.row("SELECT number, kind FROM rooms WHERE id = %s", found["room_id"]),
        services.rows(
            "SELECT amount, method, paid_at FROM payments WHERE reservation_id = %s ORDER BY id", found["id"]
        ),
    )
    return {**found, "guest": guest, "room": room, "payments": payments}


class NewReservation(BaseModel):
    """A booking request; the room by its number, the stay as a date and a number of nights."""

    room: str = Field(max_length=8)
    guest: str = Field(min_length=1, max_length=80)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=120)
    check_in: date
    nights: int = Field(ge=1, le=30)


@router.post("/reservations", status_code=201)
async def create_reservation(services: Shared, hotel: Hotel, wish: NewReservation) -> dict[str, Any]:
    """Book a room in one transaction; 404 without the room, 409 when it is taken."""
    async with services.pool.connection() as connection, connection.transaction():
        # The lock makes two guests who want the same room wait for each other.
        room = await (
            await connection.execute(
                "SELECT id, base_price FROM rooms WHERE hotel_id = %s AND number = %s FOR UPDATE",
                (hotel["id"], wish.room),
            )
        ).fetchone()
        if room is None:
            raise HTTPException(404, f"{hotel['slug']} has no room {wish.room!r}")
        taken = await (
            await connection.execute(
                "SELECT count(*) AS n FROM reservations WHERE room_id = %s AND status <> 'cancelled' "
                "AND check_in < %s + %s::int AND check_out > %s",
                (room["id"], wish.check_in, wish.nights, wish.check_in),
            )
        ).fetchone()
        if taken is not None and taken["n"]:
            raise HTTPException(409, f"room {wish.room} is taken at that time")
        guest = await (
            await connection.execute(
                "INSERT INTO guests (name, email, country, vip) VALUES (%s, %s, 'XX', false) RETURNING id",
                (wish.guest, wish.email),
            )
        ).fetchone()
        assert guest is not None
        total = room["base_price"] * wish.nights
        code = f"W-{uuid.uuid4().hex[:10].upper()}"
        reservation = await (
            await connection.execute(
                "INSERT INTO reservations (code, hotel_id, room_id, guest_id, check_in, check_out, status, "
                "total) VALUES (%s, %s, %s, %s, %s, %s + %s::int, 'booked', %s) RETURNING id, check_out",
                (
                    code,
                    hotel["id"],
                    room["id"],
                    guest["id"],
                    wish.check_in,
                    wish.check_in,
                    wish.nights,
                    total,
                ),
            )
        ).fetchone()
        assert reservation is not None
        await connection.execute(
            "INSERT INTO payments (reservation_id, amount, method) VALUES (%s, %s, 'card')",
            (reservation["id"], total),
        )
    return {"code": code, "total": total, "check_out": reservation["check_out"]}
