"""Guests of the hotel chat, as a Locust file for ``taximeter loadtest``.

Each guest looks at the hotel and its rooms, asks the FAQ, and chats; ``name=`` groups what has the
same route, so that the report has a line a route and not one a hotel.
"""

# mypy: disable-error-code="misc, no-any-unimported"
# Locust's classes and decorators are untyped for mypy (its FastHttpUser builds on gevent).

from __future__ import annotations

import random

from locust import FastHttpUser, between, task

HOTELS = ("grand-meridian", "casa-del-mar", "riad-zitoun", "hotel-aurora")
QUESTIONS = ("What time is check-in?", "Is breakfast included?", "Do you have parking?", "Are pets allowed?")


class Guest(FastHttpUser):
    """One guest, who thinks for a moment between two requests."""

    wait_time = between(0.2, 0.8)

    def on_start(self) -> None:
        """Everybody has a hotel and a conversation."""
        self.hotel = random.choice(HOTELS)
        self.conversation = f"load-{random.randrange(10**9)}"

    @task(3)
    def rooms(self) -> None:
        """Which rooms are there?"""
        self.client.get(f"/hotels/{self.hotel}/rooms", name="/hotels/{hotel}/rooms")

    @task(2)
    def policies(self) -> None:
        """What are the rules?"""
        self.client.get(f"/hotels/{self.hotel}/policies", name="/hotels/{hotel}/policies")

    @task(2)
    def chat(self) -> None:
        """A question to the chat."""
        self.client.post(
            f"/hotels/{self.hotel}/chat",
            json={"conversation": self.conversation, "message": random.choice(QUESTIONS)},
            name="/hotels/{hotel}/chat",
        )
