"""The guest chat: whole (gpt-4o), streamed (Claude for VIPs), its history and a summary."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from anthropic.types import MessageParam, TextBlockParam
from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

from .prompts import house_rules
from .replies import Replies
from .retrieval import Context, gather_context, remember
from .services import Row, Services
from .tenancy import Hotel, Shared

router = APIRouter(prefix="/hotels/{hotel}")

CHAT_MODEL = "gpt-4o"  # for everything (weakness 8)
SIMPLE_MODEL = "gpt-4o-mini"  # with fix.routing, for what the FAQ answers
SIMPLE_FROM = 0.65  # cosine of the question with the nearest FAQ
VIP_MODEL = "claude-sonnet-4-6"
SIMPLE_VIP_MODEL = "claude-haiku-4-5"
SUMMARY_MODEL = "claude-haiku-4-5"
MAX_TOKENS = 400
PAGE = 50  # messages of a conversation, with fix.pagination
SUMMED_UP = 20  # the last ones
_LAST = 2**63 - 1

ConversationId = Annotated[str, Path(max_length=64)]


class Question(BaseModel):
    """A guest's message in a conversation that the client names."""

    conversation: str = Field(min_length=1, max_length=64)
    message: str = Field(min_length=1, max_length=2000)
    tier: Literal["standard", "vip"] = "standard"


def _openai_messages(
    services: Services, hotel: Row, context: Context, message: str
) -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = [
        {
            "role": "system",
            "content": "\n".join(house_rules(services.flags, hotel["name"], hotel["city"], context.short)),
        },
        {"role": "system", "content": context.as_text()},
    ]
    for row in context.history:
        if row["role"] == "assistant":
            messages.append({"role": "assistant", "content": row["body"]})
        else:
            messages.append({"role": "user", "content": row["body"]})
    return [*messages, {"role": "user", "content": message}]


def _model(services: Services, context: Context, dear: str = CHAT_MODEL, cheap: str = SIMPLE_MODEL) -> str:
    """The model for a question; ``fix.routing`` sends the simple ones to a cheaper one."""
    simple = bool(context.faq) and context.faq[0]["similarity"] >= SIMPLE_FROM
    return cheap if services.flags["fix.routing"] and simple else dear


@router.post("/chat")
async def chat(services: Shared, hotel: Hotel, question: Question) -> Any:
    """Answer a guest, all at once (weakness 9), or as ``/chat/stream`` does with ``fix.stream_chat``."""
    if services.flags["fix.stream_chat"]:
        return await _stream(services, hotel, question.model_copy(update={"tier": "standard"}), "chat")
    await services.limits.question(question.conversation)
    context = await gather_context(services, hotel, question.conversation, question.message)

    async def ask() -> str:
        return await _complete(services, hotel, context, question.message)

    answer = await Replies(services, hotel, "chat", question.message, context).reply(ask)
    await remember(services, question.conversation, ("user", question.message), ("assistant", answer))
    return {"conversation": question.conversation, "answer": answer}


async def _complete(services: Services, hotel: Row, context: Context, message: str) -> str:
    for _ in range(2 if services.flags["fault.ask_twice"] else 1):
        completion = await services.openai.chat.completions.create(
            model=_model(services, context),
            messages=_openai_messages(services, hotel, context, message),
            max_tokens=MAX_TOKENS,
        )
    return completion.choices[0].message.content or ""


@router.post("/chat/stream")
async def chat_stream(services: Shared, hotel: Hotel, question: Question) -> StreamingResponse:
    """Answer as server-sent events ``{"delta": ...}``, then ``{"done": true}``."""
    return await _stream(services, hotel, question, "stream")


async def _stream(services: Services, hotel: Row, question: Question, route: str) -> StreamingResponse:
    await services.limits.question(question.conversation)
    context = await gather_context(services, hotel, question.conversation, question.message)
    replies = Replies(services, hotel, route, question.message, context)
    said = await replies.known()
    at_once = services.flags["fix.batch_writes"]  # with the answer
    if not at_once:
        await remember(services, question.conversation, ("user", question.message))
    pieces = _claude if question.tier == "vip" else _gpt

    async def events() -> AsyncIterator[str]:
        if services.flags["fault.ask_twice"] and said is None:
            async for _ in pieces(services, hotel, context, question.message):
                pass
        answer = []
        spoken = pieces(services, hotel, context, question.message) if said is None else _known(said)
        async for piece in spoken:
            answer.append(piece)
            yield f"data: {json.dumps({'delta': piece})}\n\n"
        whole = "".join(answer)
        if said is None:
            await replies.keep(whole)
        asked = [("user", question.message)] if at_once else []
        await remember(services, question.conversation, *asked, ("assistant", whole))
        yield 'data: {"done": true}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")


async def _known(answer: str) -> AsyncIterator[str]:
    yield answer


async def _gpt(services: Services, hotel: Row, context: Context, message: str) -> AsyncIterator[str]:
    stream = await services.openai.chat.completions.create(
        model=_model(services, context),
        messages=_openai_messages(services, hotel, context, message),
        max_tokens=MAX_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


async def _claude(services: Services, hotel: Row, context: Context, message: str) -> AsyncIterator[str]:
    rules, *rest = house_rules(services.flags, hotel["name"], hotel["city"], context.short)
    system: list[TextBlockParam] = [
        {"type": "text", "text": rules, "cache_control": {"type": "ephemeral"}},
        *(TextBlockParam(type="text", text=text) for text in (*rest, context.as_text())),
    ]
    messages: list[MessageParam] = []
    for row in context.history:
        if row["role"] == "assistant":
            messages.append({"role": "assistant", "content": row["body"]})
        else:
            messages.append({"role": "user", "content": row["body"]})
    stream = await services.anthropic.messages.create(
        model=_model(services, context, VIP_MODEL, SIMPLE_VIP_MODEL),
        system=system,
        messages=[*messages, {"role": "user", "content": message}],
        max_tokens=MAX_TOKENS,
        stream=True,
    )
    async for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


async def _history(
    services: Services, hotel: Row, conversation: str, limit: int, before: int | None = None
) -> list[Row]:
    """The messages of a conversation, oldest first: all, or the last ``limit`` (``fix.pagination``)."""
    found = await services.row(
        "SELECT id FROM conversations WHERE id = %s AND hotel_id = %s", conversation, hotel["id"]
    )
    if found is None:
        raise HTTPException(404, f"{hotel['slug']} has no conversation {conversation!r}")
    if not services.flags["fix.pagination"]:
        return await services.rows(
            "SELECT id, role, body, created_at FROM messages WHERE conversation_id = %s ORDER BY id",
            conversation,
        )
    page = await services.rows(
        "SELECT id, role, body, created_at FROM messages WHERE conversation_id = %s AND id < %s "
        "ORDER BY id DESC LIMIT %s",
        *(conversation, before or _LAST, limit),
    )
    return page[::-1]


@router.get("/conversations/{conversation}")
async def conversation_history(
    services: Shared,
    hotel: Hotel,
    conversation: ConversationId,
    before: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """Its messages; with ``fix.pagination`` the last ``PAGE``, those before them by ``before``."""
    found = await _history(services, hotel, conversation, PAGE, before)
    more = {"before": found[0]["id"]} if services.flags["fix.pagination"] and len(found) == PAGE else {}
    return {"messages": [{k: row[k] for k in ("role", "body", "created_at")} for row in found], **more}


@router.post("/conversations/{conversation}/summary")
async def summarise(services: Shared, hotel: Hotel, conversation: ConversationId) -> dict[str, Any]:
    """Sum a conversation up for the front desk (Claude Haiku)."""
    history = await _history(services, hotel, conversation, SUMMED_UP)
    transcript = "\n".join(f"{row['role']}: {row['body']}" for row in history[-SUMMED_UP:])
    message = await services.anthropic.messages.create(
        model=SUMMARY_MODEL,
        system="Sum up the conversation for the hotel's front desk in three sentences.",
        messages=[{"role": "user", "content": transcript or "(no messages)"}],
        max_tokens=200,
    )
    return {"summary": "".join(block.text for block in message.content if block.type == "text")}
