"""A slow third-party booking service, after the plan's MotoPress. Not a model: not in the ledger."""

from __future__ import annotations

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .attempts import ApiError, Provider, baggage_member, read_body


async def quote(request: Request) -> Response:
    """``GET /motopress/v1/quote?hotel=&room=&nights=``: a price, the same for the same question."""
    query = request.query_params
    nights = query.get("nights", "")
    if not query.get("hotel") or not query.get("room") or not nights.isdecimal() or int(nights) < 1:
        return JSONResponse({"error": "hotel, room and nights (1 or more) are required"}, 400)
    if await _down(request):
        return _unavailable()
    digest = hashlib.blake2b(f"{query['hotel']}/{query['room']}".encode(), digest_size=2).digest()
    nightly = 70 + int.from_bytes(digest, "big") % 180
    return JSONResponse(
        {
            "hotel": query["hotel"],
            "room": query["room"],
            "nights": int(nights),
            "currency": "USD",
            "total": nightly * int(nights),
        }
    )


async def sync(request: Request) -> Response:
    """``POST /motopress/v1/sync {hotel, reservations: [code, ...]}``: accepts a push of bookings."""
    try:
        body = await read_body(request)
    except ApiError as problem:
        return JSONResponse({"error": problem.message}, problem.status)
    codes = body.get("reservations")
    if not isinstance(body.get("hotel"), str) or not isinstance(codes, list):
        return JSONResponse({"error": "hotel and a list of reservations are required"}, 400)
    if await _down(request):
        return _unavailable()
    return JSONResponse({"hotel": body["hotel"], "accepted": len(codes)})


async def _down(request: Request) -> bool:
    """Take as long as the service takes; whether it then fails."""
    provider: Provider = request.app.state.provider
    weather = provider.weather.over(baggage_member(request.headers.get("baggage", ""), "request"), "booking")
    await asyncio.sleep(weather.booking_s())
    return weather.booking_fails()


def _unavailable() -> Response:
    return JSONResponse({"error": "the booking engine is busy, try again later"}, 503)


ROUTES = [
    Route("/motopress/v1/quote", quote),
    Route("/motopress/v1/sync", sync, methods=["POST"]),
]
