"""What a chat needs from the database before and after the model speaks."""

from __future__ import annotations

from dataclasses import dataclass

from .faq import nearest_faq
from .prompts import short_rules
from .services import Row, Services

HISTORY_MESSAGES = 6
FEWER_MESSAGES = 4  # with fix.compact_context
FAR = 0.6  # of the nearest text's cosine: what lies below is left out with fix.compact_context


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is told: earlier messages (oldest first) and matching texts."""

    history: list[Row]
    faq: list[Row]
    content: list[Row]
    vector: str  # of the question
    short: bool = False  # the shorter house rules

    def as_text(self) -> str:
        faq = [f"Q: {row['question']}\nA: {row['answer']}" for row in self.faq]
        content = [f"[{row['source']}] {row['body']}" for row in self.content]
        return "What we know that may help:\n" + "\n".join(faq + content)


async def gather_context(services: Services, hotel: Row, conversation: str, question: str) -> Context:
    """Four statements and an embedding, each awaited before the next begins (weakness 4), or not."""
    compact = services.flags["fix.compact_context"]
    await services.execute(
        "INSERT INTO conversations (id, hotel_id) VALUES (%s, %s) "
        "ON CONFLICT (id) DO UPDATE SET last_used = now()",
        *(conversation, hotel["id"]),
    )
    history, vector = await services.together(
        services.rows(
            "SELECT role, body FROM messages WHERE conversation_id = %s ORDER BY id DESC LIMIT %s",
            *(conversation, FEWER_MESSAGES if compact else HISTORY_MESSAGES),
        ),
        services.embedder.embed(question),
    )
    faq, content = await services.together(
        nearest_faq(services, vector, hotel, 3),
        _content(services, vector, hotel),
    )
    if compact:
        faq, content = _closest(faq), _closest(content)
    return Context(history[::-1], faq, content, vector, short_rules(services.flags, conversation))


def _closest(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["similarity"] >= FAR * rows[0]["similarity"]]


async def _content(services: Services, vector: str, hotel: Row) -> list[Row]:
    if services.flags["fix.match_functions"]:
        statement, key = "SELECT source, body, similarity FROM near_content(%s::vector, %s, %s)", hotel["id"]
    else:
        statement, key = (
            "SELECT source, body, similarity FROM match_content(%s::vector, %s, %s)",
            hotel["slug"],
        )
    return await services.rows(statement, vector, key, 4)


async def remember(services: Services, conversation: str, *said: tuple[str, str]) -> None:
    """Store messages (role, text) in order: a statement each, or one for all (``fix.batch_writes``)."""
    every = [said] if services.flags["fix.batch_writes"] else [(each,) for each in said]
    for some in every:
        values = ", ".join(["(%s, %s, %s)"] * len(some))
        await services.execute(
            f"INSERT INTO messages (conversation_id, role, body) VALUES {values}",
            *(value for role, body in some for value in (conversation, role, body)),
        )
