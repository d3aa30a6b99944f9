"""``python -m examples.hotel_chat.seed --dsn ADMIN_DSN [--scale demo|small] [--seed 7]``.

Creates the schema and the role ``hotel_app`` and fills the tables, the same for the same seed.
Run as the database's administrator. Embeddings come from OPENAI_BASE_URL, as in production, so
reset the provider's ledger afterwards. Existing tables of the example are dropped first.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
from openai import OpenAI, OpenAIError

from .embeddings import MODEL, as_vector
from .seed_texts import CONTENT, FAMILY_NAMES, FAQ, GIVEN_NAMES, HOTELS, POLICIES, ROOM_KINDS

#: rooms, reservations and past conversations of each hotel
SCALES = {"small": (6, 40, 5), "demo": (24, 1500, 50)}
_FIRST_DAY = date(2026, 1, 1)
_DAYS = 365
_BATCH = 100
_RESERVATION = "id, code, hotel_id, room_id, guest_id, check_in, check_out, status, total"

Table = list[Sequence[Any]]


def _embed(client: OpenAI, texts: Sequence[str]) -> dict[str, str]:
    vectors = {}
    unique = sorted(set(texts))
    for start in range(0, len(unique), _BATCH):
        batch = unique[start : start + _BATCH]
        answer = client.embeddings.create(model=MODEL, input=batch)
        for text, item in zip(batch, answer.data, strict=True):
            vectors[text] = as_vector(item.embedding)
    return vectors


def _texts(client: OpenAI) -> dict[str, Table]:
    """FAQ, content and policies of every hotel, embedded where searched."""
    content = [
        (hotel_id, source, text.format(name=hotel.name, city=hotel.city))
        for hotel_id, hotel in enumerate(HOTELS, 1)
        for source, text in CONTENT
    ]
    vectors = _embed(client, [*FAQ, *(text for _, _, text in content)])
    hotel_ids = range(1, len(HOTELS) + 1)
    faq = [(h, question, answer, vectors[question]) for h in hotel_ids for question, answer in FAQ.items()]
    policies = [(h, title, body) for h in hotel_ids for title, body in POLICIES.items()]
    return {
        "policies (id, hotel_id, title, body)": _numbered(policies),
        "faq (id, hotel_id, question, answer, embedding)": _numbered(faq),
        "content_chunks (id, hotel_id, source, body, embedding)": _numbered(
            [(*row, vectors[row[2]]) for row in content]
        ),
    }


def _bookings(scale: str, rng: random.Random) -> dict[str, Table]:
    """Rooms with rates, guests, reservations with payments, past conversations."""
    rooms_each, reservations_each, conversations_each = SCALES[scale]
    rooms: Table = []
    rates: Table = []
    guests: Table = []
    reservations: Table = []
    payments: Table = []
    conversations: Table = []
    messages: Table = []
    questions = list(FAQ.items())
    for hotel_id, hotel in enumerate(HOTELS, 1):
        own: list[tuple[int, int]] = []  # room id, price
        for n in range(rooms_each):
            kind, guests_max, price = ROOM_KINDS[n % len(ROOM_KINDS)]
            room_id = len(rooms) + 1
            price += 10 * rng.randrange(5)
            rooms.append((room_id, hotel_id, str(100 * (n // 8 + 1) + n % 8 + 1), kind, guests_max, price))
            rates += [(room_id, "low", price), (room_id, "high", price * 3 // 2)]
            own.append((room_id, price))
        for n in range(1, reservations_each + 1):
            name = f"{rng.choice(GIVEN_NAMES)} {rng.choice(FAMILY_NAMES)}"
            guest_id = len(guests) + 1
            email = f"{name.lower().replace(' ', '.')}.{guest_id}@example.com"
            guests.append((guest_id, name, email, rng.choice(("DE", "FR", "ES", "US", "JP")), n % 12 == 0))
            room_id, price = rng.choice(own)
            nights = rng.randint(1, 7)
            check_in = _FIRST_DAY + timedelta(days=rng.randrange(_DAYS))
            status = rng.choices(("booked", "paid", "cancelled"), (3, 6, 1))[0]
            reservation_id = len(reservations) + 1
            reservations.append(
                (
                    *(reservation_id, f"{hotel.prefix}-{n:05d}", hotel_id, room_id, guest_id),
                    *(check_in, check_in + timedelta(days=nights), status, price * nights),
                )
            )
            if status == "paid":
                payments.append((len(payments) + 1, reservation_id, price * nights, "card"))
        for n in range(conversations_each):
            conversation = f"past-{hotel.prefix}-{n:03d}"
            conversations.append((conversation, hotel_id))
            for question, answer in rng.sample(questions, 3):
                messages += [(conversation, "user", question), (conversation, "assistant", answer)]
    return {
        "rooms (id, hotel_id, number, kind, max_guests, base_price)": rooms,
        "room_rates (room_id, season, price)": rates,
        "guests (id, name, email, country, vip)": guests,
        f"reservations ({_RESERVATION})": reservations,
        "payments (id, reservation_id, amount, method)": payments,
        "conversations (id, hotel_id)": conversations,
        "messages (conversation_id, role, body)": messages,
    }


def _numbered(rows: Iterable[Sequence[Any]]) -> Table:
    return [(number, *row) for number, row in enumerate(rows, 1)]


def seed(dsn: str, scale: str, seed_number: int, client: OpenAI) -> dict[str, int]:
    """Fill the database; returns rows per table. Raises ``psycopg.Error`` or ``OpenAIError``."""
    tables = _texts(client) | _bookings(scale, random.Random(seed_number))
    hotels = [
        (hotel.slug, hotel.name, hotel.city, hotel.stars, f"{hotel.name}, a house of {hotel.city}.")
        for hotel in HOTELS
    ]
    tables = {"hotels (id, slug, name, city, stars, description)": _numbered(hotels)} | tables
    counts = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.transaction():
            connection.execute(Path(__file__).with_name("schema.sql").read_text())
            for target, rows in tables.items():
                with connection.cursor().copy(f"COPY {target} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
                counts[target.split()[0]] = len(rows)
            for table in ("guests", "reservations", "payments"):  # COPY gave ids; go on after them
                connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
                )
        connection.execute("REFRESH MATERIALIZED VIEW occupancy")
        connection.execute("VACUUM ANALYZE")
        preloaded = connection.execute("SHOW shared_preload_libraries").fetchone()
        if preloaded and "pg_stat_statements" in preloaded[0]:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hotel_chat.seed", description=__doc__)
    parser.add_argument("--dsn", required=True, help="the administrator's connection, a libpq URI")
    parser.add_argument("--scale", choices=sorted(SCALES), default="demo")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        if not os.environ.get(name):
            remedy = "the seed embeds its texts there; start examples.provider and name it"
            print(f"{name} is not set: {remedy} (any key will do)", file=sys.stderr)
            return 1
    try:
        with OpenAI() as client:
            counts = seed(options.dsn, options.scale, options.seed, client)
    except psycopg.Error as error:
        print(f"cannot fill the database at --dsn: {error}\nIt must be a superuser's connection to a "
              "Postgres with pgvector.", file=sys.stderr)  # fmt: skip
        return 1
    except OpenAIError as error:
        print(f"cannot embed the texts at OPENAI_BASE_URL={os.environ['OPENAI_BASE_URL']}: {error}",
              file=sys.stderr)  # fmt: skip
        return 1
    print("seeded " + ", ".join(f"{count} {table}" for table, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
