"""Answers that were given before: by the words of a question, or by its meaning.

Only for the first question of a conversation (what was said before changes an answer), within a hotel, and
within a route, whose model it is. ``fix.answer_cache`` remembers them in the process by the normalised words;
``fix.similar_answers`` keeps them in the database, found by the cosine of the questions' vectors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .retrieval import Context
from .services import Row, Services
from .spelling import normalised

NEAR = 0.95  # cosine from which two questions are one


@dataclass(frozen=True, slots=True)
class Replies:
    """What may be known of one question."""

    services: Services
    hotel: Row
    route: str
    message: str
    context: Context

    @property
    def _key(self) -> str:
        return f"{self.route} {self.hotel['slug']} {normalised(self.message)}"

    @property
    def _by_meaning(self) -> bool:
        return self.services.flags["fix.similar_answers"] and not self.context.history

    async def reply(self, ask: Callable[[], Awaitable[str]]) -> str:
        """The answer that is known, or ``ask()``'s, which is kept; for a route that answers in one piece."""

        async def near() -> str:
            answer = await self._near()
            if answer is None:
                answer = await ask()
                await self._store(answer)
            return answer

        if self.services.flags["fix.answer_cache"] and not self.context.history:
            found: str = await self.services.answers.get(self._key, near)
            return found
        return await near()

    async def known(self) -> str | None:
        """The answer that is known; for a route that streams, which then calls ``keep`` at the end."""
        found: str | None = None
        if self.services.flags["fix.answer_cache"] and not self.context.history:
            found = self.services.answers.known(self._key)
        return found if found is not None else await self._near()

    async def keep(self, answer: str) -> None:
        """Keep what was streamed."""
        if self.services.flags["fix.answer_cache"] and not self.context.history:
            self.services.answers.keep(self._key, answer)
        await self._store(answer)

    async def _near(self) -> str | None:
        if not self._by_meaning:
            return None
        vector = self.context.vector
        found = await self.services.row(
            "SELECT answer, 1 - (embedding <=> %s::vector) AS similarity FROM known_answers "
            "WHERE hotel_id = %s AND route = %s ORDER BY embedding <=> %s::vector LIMIT 1",
            *(vector, self.hotel["id"], self.route, vector),
        )
        return found["answer"] if found and found["similarity"] >= NEAR else None

    async def _store(self, answer: str) -> None:
        if self._by_meaning:
            await self.services.execute(
                "INSERT INTO known_answers (hotel_id, route, embedding, answer) "
                "VALUES (%s, %s, %s::vector, %s)",
                *(self.hotel["id"], self.route, self.context.vector, answer),
            )
