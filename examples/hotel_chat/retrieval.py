"""What a chat needs from the database before and after the model speaks."""

from __future__ import annotations

from dataclasses import dataclass

from .faq import MATCH_FAQ
from .services import Row, Services

HISTORY_MESSAGES = 6


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is told: earlier messages (oldest first) and matching texts."""

    history: list[Row]
    faq: list[Row]
    content: list[Row]

    def as_text(self) -> str:
        faq = [f"Q: {row['question']}\nA: {row['answer']}" for row in self.faq]
        content = [f"[{row['source']}] {row['body']}" for row in self.content]
        return "What we know that may help:\n" + "\n".join(faq + content)


async def gather_context(services: Services, hotel: Row, conversation: str, question: str) -> Context:
    """Four statements and an embedding, each awaited before the next begins (weakness 4), or not."""
    await services.execute(
        "INSERT INTO conversations (id, hotel_id) VALUES (%s, %s) "
        "ON CONFLICT (id) DO UPDATE SET last_used = now()",
        *(conversation, hotel["id"]),
    )
    history, vector = await services.together(
        services.rows(
            "SELECT role, body FROM messages WHERE conversation_id = %s ORDER BY id DESC LIMIT %s",
            *(conversation, HISTORY_MESSAGES),
        ),
        services.embedder.embed(question),
    )
    faq, content = await services.together(
        services.rows(MATCH_FAQ, vector, hotel["slug"], 3),
        services.rows(
            "SELECT source, body, similarity FROM match_content(%s::vector, %s, %s)",
            *(vector, hotel["slug"], 4),
        ),
    )
    return Context(history[::-1], faq, content)


async def remember(services: Services, conversation: str, role: str, body: str) -> None:
    await services.execute(
        "INSERT INTO messages (conversation_id, role, body) VALUES (%s, %s, %s)", conversation, role, body
    )
