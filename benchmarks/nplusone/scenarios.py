"""What a request does, with its label: an N+1, the same read again, or a legitimate repetition.

The labels are what a developer says who sees the code: an N+1 is a loop of reads over the rows of an earlier
answer that one read could replace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from opentelemetry import trace

from benchmarks.nplusone.drivers import Driver

SCHEMA = """
CREATE TABLE guests (id int PRIMARY KEY, name text, country text);
INSERT INTO guests SELECT n, 'Guest ' || n, 'C' || n % 30 FROM generate_series(1, 3000) n;
CREATE TABLE rooms (id int PRIMARY KEY, number text, hotel_id int);
INSERT INTO rooms SELECT n, 'no ' || n, n % 20 FROM generate_series(1, 1000) n;
CREATE TABLE stays (id int PRIMARY KEY, guest_id int REFERENCES guests, room_id int REFERENCES rooms,
  hotel_id int);
INSERT INTO stays SELECT n, 1 + (n * 7) % 2999, 1 + (n * 13) % 997, n % 20 FROM generate_series(1, 5000) n;
CREATE INDEX ON stays (hotel_id);
CREATE TABLE folders (id int PRIMARY KEY, parent_id int, name text);
INSERT INTO folders SELECT n, CASE WHEN n > 1 THEN n - 1 END, 'f' || n FROM generate_series(1, 60) n;
CREATE TABLE jobs (id int PRIMARY KEY, state text, tries int);
INSERT INTO jobs SELECT n, 'open', 0 FROM generate_series(1, 20000) n;
CREATE TABLE counters (id int PRIMARY KEY, n int);
INSERT INTO counters VALUES (1, 0);
ANALYZE;
"""

LIST = "SELECT id, guest_id, room_id FROM stays WHERE hotel_id = %s ORDER BY id LIMIT %s"
GUEST = "SELECT name FROM guests WHERE id = %s"
ROOM = "SELECT number FROM rooms WHERE id = %s"
N_PLUS_ONE, REDUNDANT, LEGITIMATE = "n_plus_one", "redundant", "legitimate"
_tracer = trace.get_tracer("hotel")


@dataclass
class Place:
    """What a scenario has at hand."""

    driver: Driver
    n: int
    hotel: int
    url: str  # of this service
    cache: dict[int, str]


Scenario = Callable[[Place], Awaitable[Any]]
SCENARIOS: dict[str, tuple[str, Scenario]] = {}


def scenario(label: str) -> Callable[[Scenario], Scenario]:
    """Put it under its function's name."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS[getattr(function, "__name__", "")] = (label, function)
        return function

    return add


@scenario(N_PLUS_ONE)
async def plain(at: Place) -> None:
    for _, guest, _ in await at.driver.ask(LIST, at.hotel, at.n):
        await at.driver.ask(GUEST, guest)


@scenario(N_PLUS_ONE)
async def one_connection(at: Place) -> None:
    async with at.driver.connection() as ask:
        for _, guest, _ in await ask(LIST, at.hotel, at.n):
            await ask(GUEST, guest)


@scenario(N_PLUS_ONE)
async def interleaved(at: Place) -> None:
    async with at.driver.connection() as ask:
        for _, guest, room in await ask(LIST, at.hotel, at.n):
            await ask(GUEST, guest)
            await ask(ROOM, room)


@scenario(N_PLUS_ONE)
async def parallel(at: Place) -> None:
    rows = await at.driver.ask(LIST, at.hotel, at.n)
    await asyncio.gather(*(at.driver.ask(GUEST, guest) for _, guest, _ in rows))


@scenario(N_PLUS_ONE)
async def parallel_interleaved(at: Place) -> None:
    rows = await at.driver.ask(LIST, at.hotel, at.n)
    await asyncio.gather(
        *(at.driver.ask(GUEST, guest) for _, guest, _ in rows),
        *(at.driver.ask(ROOM, room) for *_, room in rows),
    )


@scenario(N_PLUS_ONE)
async def a_transaction_each(at: Place) -> None:
    for _, guest, _ in await at.driver.ask(LIST, at.hotel, at.n):
        async with at.driver.connection() as ask:
            await ask(GUEST, guest)


@scenario(N_PLUS_ONE)
async def spans_of_its_own(at: Place) -> None:
    for _, guest, _ in await at.driver.ask(LIST, at.hotel, at.n):
        with _tracer.start_as_current_span("render stay"):
            await at.driver.ask(GUEST, guest)


@scenario(N_PLUS_ONE)
async def cold_cache(at: Place) -> None:
    for _, guest, _ in await at.driver.ask(LIST, at.hotel, at.n):
        if guest not in at.cache:
            ((at.cache[guest],),) = await at.driver.ask(GUEST, guest)


@scenario(N_PLUS_ONE)
async def with_a_write_between(at: Place) -> None:
    async with at.driver.connection() as ask:
        rows = await ask(LIST, at.hotel, at.n)
        for number, (_, guest, _) in enumerate(rows):
            await ask(GUEST, guest)
            if number == len(rows) // 2:
                await ask("UPDATE counters SET n = n + 1 WHERE id = 1")


@scenario(N_PLUS_ONE)
async def counts(at: Place) -> None:
    rooms = await at.driver.ask(
        "SELECT id, number FROM rooms WHERE hotel_id = %s ORDER BY id LIMIT %s", at.hotel, at.n
    )
    for room, _ in rooms:
        await at.driver.ask("SELECT count(*) FROM stays WHERE room_id = %s", room)


@scenario(N_PLUS_ONE)
async def from_the_request(at: Place) -> None:
    """A list that came with the request, asked for one by one: no earlier answer holds the ids."""
    for number in range(at.n):
        await at.driver.ask(GUEST, 1 + (at.hotel * 37 + number * 11) % 2999)


@scenario(REDUNDANT)
async def same_again(at: Place) -> None:
    await at.driver.ask(ROOM, at.hotel + 1)
    for _ in range(at.n):
        await at.driver.ask(GUEST, at.hotel + 1)


@scenario(LEGITIMATE)
async def joined(at: Place) -> None:
    await at.driver.ask(
        "SELECT s.id, g.name, r.number FROM stays s JOIN guests g ON g.id = s.guest_id "
        "JOIN rooms r ON r.id = s.room_id WHERE s.hotel_id = %s ORDER BY s.id LIMIT %s", at.hotel, at.n
    )  # fmt: skip


@scenario(LEGITIMATE)
async def batched(at: Place) -> None:
    rows = await at.driver.ask(LIST, at.hotel, at.n)
    await at.driver.ask("SELECT id, name FROM guests WHERE id = ANY(%s)", [guest for _, guest, _ in rows])
    await at.driver.ask("SELECT id, number FROM rooms WHERE id = ANY(%s)", [room for *_, room in rows])


@scenario(LEGITIMATE)
async def warm_cache(at: Place) -> None:
    for _, guest, _ in await at.driver.ask(LIST, at.hotel, at.n):
        at.cache.setdefault(-guest, "known")


@scenario(LEGITIMATE)
async def almost_warm_cache(at: Place) -> None:
    for number, (_, guest, _) in enumerate(await at.driver.ask(LIST, at.hotel, at.n)):
        if number < 2:
            await at.driver.ask(GUEST, guest)


@scenario(LEGITIMATE)
async def server_side_cursor(at: Place) -> None:
    await at.driver.pieces("SELECT id, guest_id FROM stays ORDER BY id", max(1, 5000 // at.n))


@scenario(LEGITIMATE)
async def offset_pages(at: Place) -> None:
    for page in range(at.n):
        await at.driver.ask("SELECT id FROM stays ORDER BY id LIMIT 250 OFFSET %s", page * 250)


@scenario(LEGITIMATE)
async def key_pages(at: Place) -> None:
    last = 0
    for _ in range(at.n):
        rows = await at.driver.ask("SELECT id, name FROM guests WHERE id > %s ORDER BY id LIMIT 20", last)
        last = rows[-1][0]


@scenario(LEGITIMATE)
async def tree(at: Place) -> None:
    folder = at.n + 20
    for _ in range(at.n):
        ((parent, _),) = await at.driver.ask("SELECT parent_id, name FROM folders WHERE id = %s", folder)
        folder = parent


@scenario(LEGITIMATE)
async def lists_in_pieces(at: Place) -> None:
    for piece in range(at.n):
        ids = list(range(1 + piece * 40, 41 + piece * 40))
        await at.driver.ask("SELECT id, name FROM guests WHERE id = ANY(%s)", ids)


@scenario(LEGITIMATE)
async def work_queue(at: Place) -> None:
    for _ in range(at.n):
        async with at.driver.connection() as ask:
            ((job,),) = await ask(
                "SELECT id FROM jobs WHERE state = 'open' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            await ask("UPDATE jobs SET state = 'done' WHERE id = %s", job)


@scenario(LEGITIMATE)
async def polling(at: Place) -> None:
    for _ in range(at.n):
        await at.driver.ask("SELECT n FROM counters WHERE id = %s", 1)
        await at.driver.ask("UPDATE counters SET n = n + 1 WHERE id = %s", 1)


@scenario(LEGITIMATE)
async def agent_loop(at: Place) -> None:
    """Each round asks another service what to look up next."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for number in range(at.n):
            answer = await client.get(f"{at.url}/next/{number}")
            await at.driver.ask(GUEST, 1 + answer.json() % 2999)


@scenario(LEGITIMATE)
async def dashboard(at: Place) -> None:
    tables = ("guests", "rooms", "stays", "folders", "jobs", "counters")
    for table in tables:
        await at.driver.ask(f"SELECT count(*) FROM {table}")
        await at.driver.ask(f"SELECT max(id) FROM {table}")


@scenario(LEGITIMATE)
async def short_list(at: Place) -> None:
    await at.driver.ask(ROOM, at.hotel + 1)
    for guest in (1, 2, 3):
        await at.driver.ask(GUEST, guest)
