"""What the detectors' tests plant in a store, with twins that only look like it, and what is found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taximeter_analysis import Filters, open_store
from taximeter_analysis.advise import Advice, Finding, advise
from tests.analysis.stores import Builder

HOTEL = "SELECT * FROM hotels WHERE slug = %s"
ROOMS = "SELECT id FROM rooms WHERE hotel_id = %s"
RATE = "SELECT price FROM rates WHERE room_id = %s"


def advice(build: Builder, path: Path, **filters: Any) -> Advice:
    with open_store(build.write(path / "store")) as store:
        return advise(store, Filters(**filters))


def found(build: Builder, path: Path, *kinds: str) -> list[Finding]:
    return [each for each in advice(build, path).findings if each.kind in kinds]


def read(build: Builder, request: dict[str, Any], at: float, took: float, statement: str, **row: Any) -> None:
    """A database call with its evidence under one key; ``given`` and ``returned`` are single values."""
    given, returned = row.pop("given", ()), row.pop("returned", ())
    row.setdefault("db_parameters", "p" + "-".join(given) if given else None)
    build.db(
        request,
        at,
        took,
        statement,
        evidence_key="k1",
        db_parameter_values=" ".join(given) or None,
        db_result_values=" ".join(returned) or None,
        **row,
    )


def n_plus_one(build: Builder, *, same: bool = False, write: bool = False, wait: bool = False) -> None:
    """Twenty requests that list six rooms and ask for each one's rate (or a twin of that)."""
    for number in range(20):
        request = build.request("/rooms", number * 1000, 100, tenant="a" if number % 4 else "b")
        ids = [f"r{number}{index}" for index in range(6)]
        read(build, request, 1, 4, ROOMS, given=("h1",), returned=tuple(ids), db_rows=6)
        for index, room in enumerate(ids):
            at = 10 + index * 10
            statement = "UPDATE rates SET price = 1 WHERE room_id = %s" if write else RATE
            key = ids[0] if same else room
            place = {"code_path": "rooms.py", "code_line": 7, "code_function": "list_rooms"}
            read(build, request, at, 4, statement, given=(key,), returned=(f"p{key}",), db_rows=1, **place)
            if index % 2:
                build.db(request, at + 5, 1, "SELECT 1")  # a pool's check in between hides nothing
            if wait:
                build.model(request, at + 6, 3)


def sequence(
    build: Builder,
    *,
    feed: bool = False,
    computed: bool = False,
    check: bool = False,
    transaction: bool = False,
    condition: bool = False,
    begun: bool = False,
) -> None:
    """Thirty requests with two reads in turn; each flag makes the later one dependent, or begun already."""
    for number in range(30):
        request = build.request("/stay", number * 1000, 60)
        other = build.request("/other", number * 1000 + 500, 5)
        build.db(other, 1, 3, HOTEL)  # several routes begin so: it may be what lets a guest in
        hotel = f"h{number % 3}"
        read(build, request, 1, 4, HOTEL, given=(f"s{number % 3}",), returned=(hotel,), db_rows=1)
        row = f"rate{number % 3}"
        own = f"own{number}"
        if check:
            read(build, request, 10, 20, "SELECT id FROM stays WHERE id = %s", given=(own,), returned=(own,))
        else:
            read(build, request, 10, 20, ROOMS, given=(hotel,), returned=(row,), db_rows=1)
        if transaction:
            build.db(request, 9, 0.1, "BEGIN ISOLATION LEVEL REPEATABLE READ", db_operation="BEGIN")
            build.db(request, 48, 0.1, "COMMIT", db_operation="COMMIT")
        if condition and number % 10 == 0:
            continue  # the first one's answer said that this is not to be asked
        wanted = row if feed else f"f({row})" if computed else own
        at = 28 if begun and number == 7 else 32  # once it is seen beside the other: a chance that it is not
        read(build, request, at, 15, RATE, given=(wanted,), returned=(f"x{number}",), db_rows=1)


def chats(
    build: Builder,
    *,
    name_first: bool = True,
    streamed: bool = False,
    twice: bool = False,
    attempts: int = 1,
    long: bool = True,
    size: int = 128,
    marked: bool = False,
) -> None:
    """Forty chats of four hotels: twelve blocks of instructions, one of which bears the hotel's name."""
    for number in range(40):
        hotel = number % 4
        request = build.request(
            "/chat", number * 1000, 900, streamed=streamed, first_byte_s=0.3 if streamed else 0.899
        )
        head = [f"s{size}:v{hotel if name_first or index == 11 else ''}-{index}" for index in range(12)]
        blocks = " ".join([*(head if long else head[:1]), f"u{10 if long else 900}:q{number}"])
        row: dict[str, Any] = {"evidence_key": "k1", "prompt_blocks": blocks, "model": "gpt-4o"}
        if marked:
            blocks = blocks.replace(f"s{size}:", f"s{size}*:")
            row |= {"prompt_blocks": blocks, "model": "claude-sonnet-4-6", "ai_provider": "anthropic"}
        if streamed:
            row["ai_first_chunk_s"] = 0.2
        row["attributes"] = {"taximeter.model.attempts": str(attempts if number % 4 == 0 else 1)}
        row["tokens"] = (12 * size + 10, 20 + number, 0)
        took = 200 + 10 * (20 + number)
        for _ in range(1 + twice):
            build.model(request, 50, took, cost=0.004, **row)


def steady(build: Builder, *, written: bool = False, changing: bool = False) -> None:
    for number in range(60):
        request = build.request("/hotel", number * 500, 20, tenant=f"h{number % 3}")
        answer = f"a{number if changing else number % 3}"
        read(build, request, 1, 8, HOTEL, given=(f"s{number % 3}",), returned=(answer,), db_rows=1)
        if written and number % 10 == 0:
            build.db(build.request("/edit", number * 500, 20), 1, 5, "UPDATE hotels SET name = %s")
