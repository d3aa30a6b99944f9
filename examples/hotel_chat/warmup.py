"""``python -m examples.hotel_chat.warmup --dsn ADMIN_DSN [--top 200]``: vectors of what guests ask most.

Reads the guests' stored messages, embeds the commonest questions (normalised, in few calls) at
OPENAI_BASE_URL and writes them to ``known_questions``, which a service with ``fix.cache_warmup`` knows from
the start. To be run before a release or every night; a question that is known already is not embedded again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

import psycopg
from openai import OpenAI, OpenAIError

from .embeddings import MODEL, as_vector
from .spelling import normalised

_BATCH = 100


def warm(dsn: str, client: OpenAI, top: int = 200) -> tuple[int, int]:
    """(questions known now, embedded by this run). Raises ``psycopg.Error`` or ``OpenAIError``."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        asked: Counter[str] = Counter()
        for (body,) in connection.execute("SELECT body FROM messages WHERE role = 'user'"):
            asked[normalised(body)] += 1
        there = {row[0] for row in connection.execute("SELECT question FROM known_questions")}
        wanted = [question for question, _ in asked.most_common(top) if question and question not in there]
        for start in range(0, len(wanted), _BATCH):
            some = wanted[start : start + _BATCH]
            answer = client.embeddings.create(model=MODEL, input=some)
            for question, item in zip(some, answer.data, strict=True):
                connection.execute(
                    "INSERT INTO known_questions (question, embedding) VALUES (%s, %s::vector) "
                    "ON CONFLICT DO NOTHING",
                    (question, as_vector(item.embedding)),
                )
        return len(there) + len(wanted), len(wanted)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hotel_chat.warmup", description=__doc__)
    parser.add_argument("--dsn", required=True, help="a connection as the owner of the tables")
    parser.add_argument("--top", type=int, default=200, help="how many questions (default 200)")
    options = parser.parse_args()
    if not os.environ.get("OPENAI_BASE_URL"):
        print("OPENAI_BASE_URL is not set: the questions are embedded there", file=sys.stderr)
        return 1
    try:
        with OpenAI() as client:
            known, made = warm(options.dsn, client, options.top)
    except psycopg.Error as error:
        print(f"cannot read or write the questions at --dsn: {error}", file=sys.stderr)
        return 1
    except OpenAIError as error:
        print(f"cannot embed at OPENAI_BASE_URL={os.environ['OPENAI_BASE_URL']}: {error}", file=sys.stderr)
        return 1
    print(f"{known} questions are known, {made} of them new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
