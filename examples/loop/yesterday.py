"""What guests asked before the run: messages that a warm-up learns the commonest questions from.

Drawn from the guests' catalogue with another seed, so that what is known beforehand is what people like these
ask, and not what they are going to ask.
"""

from __future__ import annotations

import random

import psycopg

from examples.guests.catalogue import ask

MESSAGES = 1_500


def remember_yesterday(dsn: str, seed: int) -> None:
    """Store yesterday's questions, as conversations of one hotel. Raises ``psycopg.Error``."""
    rng = random.Random(f"{seed}:yesterday")
    with psycopg.connect(dsn, autocommit=True) as connection, connection.transaction():
        connection.execute("INSERT INTO conversations (id, hotel_id) VALUES ('yesterday', 1)")
        with connection.cursor().copy("COPY messages (conversation_id, role, body) FROM STDIN") as copy:
            for _ in range(MESSAGES):
                copy.write_row(("yesterday", "user", ask(rng)))
