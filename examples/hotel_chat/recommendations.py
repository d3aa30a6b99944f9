"""Recommendations for a stay, by the OpenAI Responses API: whole, and as a streamed itinerary."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from .chat import CHAT_MODEL
from .prompts import house_rules
from .services import Row, Services
from .tenancy import Hotel, Shared

router = APIRouter(prefix="/hotels/{hotel}")


class Stay(BaseModel):
    interests: str = Field(min_length=1, max_length=200)
    days: int = Field(default=2, ge=1, le=14)


async def _prompt(services: Services, hotel: Row, stay: Stay) -> str:
    near = (
        "SELECT body FROM content_chunks WHERE hotel_id = %s AND source = 'surroundings' ORDER BY id LIMIT 5"
    )
    chunks = await services.page("near", hotel["slug"], lambda: services.rows(near, hotel["id"]))
    places = "\n".join(row["body"] for row in chunks)
    return f"Near {hotel['name']}:\n{places}\nA guest stays {stay.days} days and likes {stay.interests}."


def _rules(services: Services, hotel: Row) -> str:
    short = services.flags["fix.short_prompt"]
    return "\n".join(house_rules(services.flags, hotel["name"], hotel["city"], short))


@router.post("/recommendations")
async def recommendations(services: Shared, hotel: Hotel, stay: Stay) -> Any:
    """All at once, or as ``/itinerary`` does with ``fix.stream_chat``."""
    if services.flags["fix.stream_chat"]:
        return _stream(services, hotel, await _prompt(services, hotel, stay), 300)
    response = await services.openai.responses.create(
        model=CHAT_MODEL,
        instructions=_rules(services, hotel),
        input=await _prompt(services, hotel, stay),
        max_output_tokens=300,
    )
    return {"recommendations": response.output_text}


@router.post("/itinerary")
async def itinerary(services: Shared, hotel: Hotel, stay: Stay) -> StreamingResponse:
    """A plan by day as server-sent events ``{"delta": ...}``, then ``{"done": true}``."""
    return _stream(services, hotel, f"{await _prompt(services, hotel, stay)} Plan each day.", 400)


def _stream(services: Services, hotel: Row, prompt: str, limit: int) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        stream = await services.openai.responses.create(
            model=CHAT_MODEL,
            instructions=_rules(services, hotel),
            input=prompt,
            max_output_tokens=limit,
            stream=True,
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                yield f"data: {json.dumps({'delta': event.delta})}\n\n"
        yield 'data: {"done": true}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")
