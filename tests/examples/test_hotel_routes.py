"""Every route of the hotel chat: its answer, and exactly what it costs in calls.

Database calls are counted by Postgres, model and embedding calls by the provider.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import HTTPException
from openai import OpenAI

from examples.hotel_chat.app import create_app
from examples.hotel_chat.flags import SHARED, Flags
from examples.hotel_chat.limits import PER_MINUTE, Limits
from examples.hotel_chat.memory import FRESH_S, STALE_S, Memory
from examples.hotel_chat.migrations import INDEXES, migrate
from examples.hotel_chat.prompts import short_rules
from examples.hotel_chat.settings import Settings
from examples.hotel_chat.shared import Shared
from examples.hotel_chat.spelling import bare, normalised
from examples.hotel_chat.warmup import warm
from taximeter import hashkey
from tests.redis_server import NO_REDIS

from .conftest import Backend, Hotel
from .processes import free_port, running

CASA = "/hotels/casa-del-mar"
STAY = {"interests": "art", "days": 2}
BOOKING = {"room": "101", "guest": "Test", "email": "t@example.com", "check_in": "2040-01-01", "nights": 2}


def question(text: str, tier: str = "standard") -> dict[str, str]:
    return {"conversation": f"test-{text}", "message": text, "tier": tier}


@dataclass(frozen=True)
class Case:
    """One request and what it must cause."""

    method: str
    route: str
    path: str
    db: int
    body: Any = None
    status: int = 200
    models: int = 0
    embeddings: int = 0
    streamed: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


H = "/hotels/{hotel}"
CASES = [
    Case("GET", "/health", "/health", 0),
    Case("GET", "/hotels", "/hotels", 1),
    Case("GET", H, CASA, 3),
    Case("GET", H, "/hotels/nowhere", 1, status=404),
    Case("GET", f"{H}/policies", f"{CASA}/policies", 2),
    Case("GET", f"{H}/faq", f"{CASA}/faq", 2),
    Case("GET", f"{H}/faq/search", f"{CASA}/faq/search?q=may+I+bring+a+parrot", 2, embeddings=1),
    Case("GET", f"{H}/faq/search", f"{CASA}/faq/search?q=may+I+bring+a+parrot", 2),  # cached now
    Case("GET", f"{H}/faq/search", f"{CASA}/faq/search?q=May+I+bring+a+parrot", 2, embeddings=1),
    Case("GET", f"{H}/faq/search", f"{CASA}/faq/search", 1, status=422),
    Case("GET", f"{H}/rooms", f"{CASA}/rooms", 2),
    Case("GET", f"{H}/rooms/{{room}}", f"{CASA}/rooms/101", 4),
    Case("GET", f"{H}/rooms/{{room}}", f"{CASA}/rooms/999", 2, status=404),
    Case("GET", f"{H}/availability", f"{CASA}/availability?from=2026-05-01&to=2026-05-03", 5),
    Case("GET", f"{H}/availability", f"{CASA}/availability?from=2026-05-03&to=2026-05-01", 1, status=422),
    Case("GET", f"{H}/reservations", f"{CASA}/reservations", 2 + 2 * 10),
    Case("GET", f"{H}/reservations/{{code}}", f"{CASA}/reservations/CDM-00001", 5),
    Case("GET", f"{H}/reservations/{{code}}", f"{CASA}/reservations/NONE", 2, status=404),
    Case("POST", f"{H}/reservations", f"{CASA}/reservations", 6, BOOKING, 201),
    Case("POST", f"{H}/reservations", f"{CASA}/reservations", 3, BOOKING, 409),
    Case("POST", f"{H}/reservations", f"{CASA}/reservations", 1, BOOKING | {"nights": 0}, 422),
    Case("POST", f"{H}/chat", f"{CASA}/chat", 7, question("Where is the sea?"), models=1, embeddings=1),
    Case("POST", f"{H}/chat", f"{CASA}/chat", 7, question("Where is the sea?"), models=1),
    Case("POST", f"{H}/chat", f"{CASA}/chat", 1, question(""), 422),
    Case(
        *("POST", f"{H}/chat/stream", f"{CASA}/chat/stream", 7, question("A tip for tonight?")),
        models=1,
        embeddings=1,
        streamed=True,
    ),
    Case(
        *("POST", f"{H}/chat/stream", f"{CASA}/chat/stream", 7, question("A tip for tonight?", "vip")),
        models=1,
        streamed=True,
    ),
    Case("GET", f"{H}/conversations/{{conversation}}", f"{CASA}/conversations/past-CDM-000", 3),
    Case("GET", f"{H}/conversations/{{conversation}}", f"{CASA}/conversations/none", 2, status=404),
    Case(
        *(
            "POST",
            f"{H}/conversations/{{conversation}}/summary",
            f"{CASA}/conversations/past-CDM-000/summary",
        ),
        3,
        models=1,
    ),
    Case("POST", f"{H}/recommendations", f"{CASA}/recommendations", 2, STAY, models=1),
    Case("POST", f"{H}/itinerary", f"{CASA}/itinerary", 2, STAY, models=1, streamed=True),
    Case("GET", f"{H}/motopress/quote", f"{CASA}/motopress/quote?room=101&nights=2", 1),
    Case("POST", f"{H}/motopress/sync", f"{CASA}/motopress/sync", 2),
    Case("GET", f"{H}/admin/stats", f"{CASA}/admin/stats", 4),
    Case("GET", f"{H}/admin/occupancy", f"{CASA}/admin/occupancy?days=10", 2),
    Case("GET", "/admin/flags", "/admin/flags", 0),
    Case("POST", "/admin/flags", "/admin/flags", 0, {"fix.batch_reservations": False}),
    Case("GET", "", "/nowhere", 0, status=404),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_route_answers_and_makes_exactly_its_calls(hotel: Hotel, case: Case) -> None:
    hotel.backend.reset()
    answer = hotel.send(case.method, case.path, case.body)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream") == case.streamed
    if case.streamed:
        assert answer.text.endswith('data: {"done": true}\n\n')
        assert answer.text.count('"delta"') > 5
    ledger = hotel.backend.ledger()
    assert (hotel.backend.db_calls(), ledger["model_calls"], ledger["embedding_calls"]) == (
        case.db,
        case.models,
        case.embeddings,
    )


def test_every_route_has_a_case() -> None:
    paths = create_app(Settings(*["unused"] * 6)).openapi()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(served) >= 15
    assert served == {(case.method, case.route) for case in CASES if case.route}


def test_the_reservations_list_is_an_n_plus_one_until_it_is_fixed(hotel: Hotel) -> None:
    calls, answers = [], []
    for fixed in (False, True):
        hotel.flags(fix_batch_reservations=fixed)
        hotel.backend.reset()
        answers.append(hotel.send("GET", f"{CASA}/reservations?limit=20").json())
        calls.append(hotel.backend.db_calls())
    hotel.flags(fix_batch_reservations=False)
    assert calls == [2 + 2 * 20, 2]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 20


def test_a_fault_makes_an_n_plus_one_of_the_rooms(hotel: Hotel) -> None:
    hotel.flags(fault_n_plus_one_rooms=True)
    hotel.backend.reset()
    rooms = hotel.send("GET", f"{CASA}/rooms").json()
    calls = hotel.backend.db_calls()
    hotel.flags(fault_n_plus_one_rooms=False)
    assert calls == 2 + len(rooms) == 8
    assert all(room["rates"] for room in rooms)


def test_the_other_faults_cost_money_misses_and_errors_and_end_with_their_flag(hotel: Hotel) -> None:
    def ask(conversation: str, **flags: bool) -> tuple[float, int]:
        """What a chat costs, and its embedding calls."""
        hotel.flags(**flags)
        hotel.backend.reset()
        body = {"conversation": conversation, "message": "Tea?"}
        answer = hotel.send("POST", f"{CASA}/chat", body)
        hotel.flags(**dict.fromkeys(flags, False))
        answer.raise_for_status()
        ledger = hotel.backend.ledger()
        return float(ledger["cost_usd"]), ledger["embedding_calls"]

    ask("warm")
    usual, embedded = ask("usual")
    assert embedded == 0
    assert ask("dear", fault_long_prompts=True)[0] > 2.5 * usual
    assert ask("cold", fault_cold_cache=True)[1] == 1
    hotel.flags(fault_errors=True)
    statuses = {hotel.send("GET", CASA).status_code for _ in range(80)}
    hotel.flags(fault_errors=False)
    assert statuses == {200, 500}
    assert {hotel.send("GET", CASA).status_code for _ in range(80)} == {200}


def test_unknown_flags_and_values_are_refused_and_change_nothing(hotel: Hotel) -> None:
    body = {"fix.batch_reservations": True, "fix.everything": True}
    refused = hotel.send("POST", "/admin/flags", body)
    assert refused.status_code == 422
    assert "fix.everything" in refused.json()["detail"]
    assert hotel.send("POST", "/admin/flags", {"fix.batch_reservations": "yes"}).status_code == 422
    flags = hotel.send("GET", "/admin/flags").json()
    assert not any(flag["on"] for flag in flags.values())


def test_search_finds_paraphrases_and_a_chat_remembers(hotel: Hotel) -> None:
    found = hotel.send("GET", f"{CASA}/faq/search?q=Where+can+I+park+my+car").json()
    assert found[0]["question"] == "Is there parking at the hotel?"
    assert found == sorted(found, key=lambda row: -row["similarity"])
    for text in ("Is it far?", "And by bus?"):
        body = {"conversation": "memory", "message": text}
        answer = hotel.send("POST", f"{CASA}/chat", body).json()["answer"]
    messages = hotel.send("GET", f"{CASA}/conversations/memory").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert messages[-1]["body"] == answer


def test_the_long_system_prompt_is_cached_by_both_providers(hotel: Hotel) -> None:
    for tier in ("standard", "vip"):
        hotel.backend.reset()
        for _ in range(2):
            hotel.send("POST", "/hotels/riad-zitoun/chat/stream", question("Tea?", tier))
        assert hotel.backend.ledger()["cached_tokens"] >= 1024, tier


def test_the_embedding_cache_forgets_beyond_100_entries(hotel: Hotel) -> None:
    def search(text: str) -> None:
        hotel.send("GET", f"{CASA}/faq/search?q={text}").raise_for_status()

    search("first")
    for number in range(100):
        search(f"other-{number}")
    hotel.backend.reset()
    search("other-99")
    assert hotel.backend.ledger()["embedding_calls"] == 0
    search("first")
    assert hotel.backend.ledger()["embedding_calls"] == 1


def _story(hotel: Hotel) -> tuple[list[Any], list[int]]:
    """What every kind of request answers, and what the story costs: statements, model and embedding calls."""
    ask = {"conversation": f"c-{next(_NUMBERS)}", "message": "Is there a pool?"}
    again = {"conversation": f"c-{next(_NUMBERS)}", "message": " is there a POOL "}
    requests: list[tuple[str, str, Any]] = [
        *[
            ("GET", path, None)
            for path in (CASA, "/hotels", f"{CASA}/policies", f"{CASA}/faq", f"{CASA}/rooms")
        ],
        *[("GET", f"{CASA}/rooms/101", None), ("GET", f"{CASA}/reservations/CDM-00001", None)],
        *[("GET", f"{CASA}/availability?from=2026-05-01&to=2026-05-03", None)],
        *[("GET", f"{CASA}/admin/stats", None), ("GET", f"{CASA}/reservations", None)],
        *[("GET", f"{CASA}/faq/search?q=Is there a swimming pool?", None)],
        *[("GET", f"{CASA}/admin/occupancy?days=40", None)],
        *[("GET", f"{CASA}/motopress/quote?room=101&nights=2", None)],
        *[("POST", f"{CASA}/chat", ask), ("POST", f"{CASA}/chat", again)],
    ]
    hotel.backend.reset()
    answers = []
    for method, path, body in requests * 2:
        answer = hotel.send(method, path, body)
        answer.raise_for_status()
        if method == "GET":
            answers.append(answer.json())
    ledger = hotel.backend.ledger()
    money = round(float(ledger["cost_usd"]) * 1e9)
    return answers, [hotel.backend.db_calls(), ledger["model_calls"], ledger["embedding_calls"], money]


_NUMBERS = iter(range(1000))


def test_every_fix_answers_the_same_for_less_or_as_much(hotel: Hotel, redis_url: str | None) -> None:
    with psycopg.connect(hotel.backend.postgres.dsn(), autocommit=True) as connection:
        connection.execute("REFRESH MATERIALIZED VIEW occupancy")
    able = hotel.send("POST", "/admin/flags", dict.fromkeys(SHARED, False)).json()
    fixes = [name for name in able if name.startswith("fix.") and (redis_url or name not in SHARED)]
    _story(hotel)  # fills the caches that are there without any fix
    plain, before = _story(hotel)
    less = {
        "fix.batch_reservations": 0, "fix.hotel_cache": 0, "fix.route_cache": 0, "fix.stats_query": 0,
        "fix.answer_cache": 1, "fix.similar_answers": 1, "fix.routing": 3, "fix.compact_context": 3,
        "fix.batch_writes": 0,
    }  # fmt: skip
    for chosen in (*[[fix] for fix in fixes], fixes):
        hotel.send("POST", "/admin/flags", dict.fromkeys(chosen, True)).raise_for_status()
        try:
            fixed, after = _story(hotel)
        finally:
            hotel.send("POST", "/admin/flags", dict.fromkeys(chosen, False)).raise_for_status()
        for answers in (plain, fixed):
            for answer in answers:  # there are more conversations by each story
                if "revenue" in answer:
                    answer.pop("conversations", None)
        assert fixed == plain, chosen
        if chosen[0] in less and len(chosen) == 1:
            what = less[chosen[0]]
            assert after[what] < before[what], chosen
        looks = 3 if "fix.similar_answers" in chosen else 0  # looked up and kept in the database
        assert after[0] <= before[0] + looks, chosen
        assert after[1] <= before[1], chosen


def test_half_of_the_conversations_try_the_shorter_prompt() -> None:
    flags = Flags()
    assert not short_rules(flags, "c-1")
    flags.switch({"fix.short_prompt": True})
    assert short_rules(flags, "c-1")
    flags.switch({"fix.prompt_trial": True})
    drawn = [short_rules(flags, f"c-{number}") for number in range(400)]
    assert 150 < sum(drawn) < 250
    assert drawn == [short_rules(flags, f"c-{number}") for number in range(400)]


def test_a_memory_gives_the_stale_answer_while_it_is_renewed() -> None:
    async def story() -> None:
        now, asked = [0.0], list[float]()
        memory = Memory("test", 2, lambda: now[0])

        async def ask() -> int:
            asked.append(now[0])
            return len(asked)

        assert [await memory.get("a", ask) for _ in "ab"] == [1, 1]
        both: list[Any] = await asyncio.gather(*(memory.get("b", ask) for _ in "ab"))
        assert both == [2, 2]
        now[0] = FRESH_S + 1
        assert await memory.get("a", ask) == 1  # stale, and renewed behind
        await asyncio.sleep(0)
        assert await memory.get("a", ask) == 3
        now[0] += STALE_S + 1
        assert await memory.get("a", ask) == 4
        await memory.get("c", ask)
        await memory.get("d", ask)
        assert await memory.get("a", ask) == 7  # two entries are kept

    asyncio.run(story())


def test_a_normalised_question_is_hashed_as_itself() -> None:
    for text in ("  WiFi??", "is  THERE a\tpool", "¿Hay piscina?", "ok"):
        exact, _ = hashkey.hasher().texts(normalised(text))
        assert hashkey.hasher().texts(text)[1] == exact


def test_indexes_stand_and_go(hotel: Hotel) -> None:
    def count() -> int:
        with psycopg.connect(hotel.backend.postgres.dsn()) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_indexes WHERE indexname = ANY(%s)", (list(INDEXES),)
            ).fetchone()
        return int(row[0]) if row else 0

    for revert, expected in ((False, len(INDEXES)), (True, 0)):
        migrate(hotel.backend.postgres.dsn(), revert)
        assert count() == expected


def test_what_is_only_courtesy_is_no_part_of_a_question() -> None:
    assert bare("Hello, is there a pool? Thank you!") == "is there a pool"
    assert bare("We would like to know, IS there a  pool") == "is there a pool"
    assert bare("thanks!") == "thanks"
    assert bare("Is the thanksgiving dinner at eight?") == "is the thanksgiving dinner at eight"


def test_courtesies_are_not_embedded_again(hotel: Hotel) -> None:
    hotel.flags(fix_fuzzy_questions=True)
    hotel.backend.reset()
    for text in ("Is there a ballroom?", "Hello, is there a ballroom", "is there a ballroom? Thank you!"):
        hotel.send("GET", f"{CASA}/faq/search?q={text}").raise_for_status()
    hotel.flags(fix_fuzzy_questions=False)
    assert hotel.backend.ledger()["embedding_calls"] == 1


def test_the_commonest_questions_are_embedded_beforehand(hotel: Hotel) -> None:
    def search() -> int:
        hotel.backend.reset()
        hotel.send("GET", f"{CASA}/faq/search?q=may I keep bees").raise_for_status()
        return int(hotel.backend.ledger()["embedding_calls"])

    with psycopg.connect(hotel.backend.postgres.dsn(), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO messages (conversation_id, role, body) "
            "SELECT 'past-CDM-000', 'user', 'May I keep bees?' FROM generate_series(1, 500)"
        )
    client = OpenAI(base_url=hotel.backend.env["OPENAI_BASE_URL"], api_key="test")
    with client:
        known, made = warm(hotel.backend.postgres.dsn(), client, top=1)
        assert (known, made) == (1, 1)
        assert warm(hotel.backend.postgres.dsn(), client, top=1) == (1, 0)
    hotel.flags(fix_cache_warmup=True)
    embedded = search()
    hotel.flags(fix_cache_warmup=False)
    with psycopg.connect(hotel.backend.postgres.dsn(), autocommit=True) as connection:
        connection.execute("DELETE FROM messages WHERE body = 'May I keep bees?'")
    assert (embedded, search()) == (0, 1)


def test_an_answer_is_known_by_its_questions_meaning(hotel: Hotel) -> None:
    def ask(text: str, path: str) -> tuple[str, int]:
        hotel.backend.reset()
        body = {"conversation": f"near-{next(_NUMBERS)}", "message": text}
        answer = hotel.send("POST", f"{CASA}{path}", body)
        answer.raise_for_status()
        return answer.text.partition("answer")[2], hotel.backend.ledger()["model_calls"]

    hotel.flags(fix_similar_answers=True)
    for path in ("/chat", "/chat/stream"):
        asked = [ask(text, path) for text in ("Is the car park guarded", "Hi, is the car park guarded?")]
        assert [calls for _, calls in asked] == [1, 0]
        assert asked[0][0] == asked[1][0]
        assert ask("Who plays the piano on Sundays?", path)[1] == 1
    hotel.flags(fix_similar_answers=False)


def test_reservations_and_conversations_are_read_page_by_page(hotel: Hotel) -> None:
    path = f"{CASA}/reservations"
    whole = hotel.send("GET", f"{path}?limit=50").json()
    assert hotel.send("GET", f"{path}?after=2026-01-01,CDM-00001").status_code == 422
    hotel.flags(fix_pagination=True)
    read, query = [], "?limit=7"
    while query:
        page = hotel.send("GET", path + query)
        read += page.json()
        query = page.links.get("next", {}).get("url", "")
    talk = f"{CASA}/conversations/long"
    for number in range(30):
        body = {"conversation": "long", "message": f"Question {number}?"}
        hotel.send("POST", f"{CASA}/chat", body).raise_for_status()
    last = hotel.send("GET", talk).json()
    first = hotel.send("GET", f"{talk}?before={last['before']}").json()
    hotel.flags(fix_pagination=False)
    assert [each["code"] for each in read] == list(dict.fromkeys(each["code"] for each in read))
    assert read[:50] == whole
    assert (len(last["messages"]), len(first["messages"]), "before" in first) == (50, 10, False)
    assert first["messages"] + last["messages"] == hotel.send("GET", talk).json()["messages"]


def test_a_question_too_many_is_refused_by_each_instance_for_itself() -> None:
    async def story() -> list[int]:
        now = [60.0]
        limits = [Limits(Flags(), Shared(), lambda: now[0]) for _ in range(2)]
        statuses = []
        for number in range(2 * PER_MINUTE + 2):
            try:
                await limits[number % 2].question("c")
                statuses.append(200)
            except HTTPException as refused:
                statuses.append(refused.status_code)
                assert refused.headers == {"Retry-After": "61"}
        await limits[0].question("another")
        now[0] += 60
        await limits[0].question("c")
        return statuses

    assert asyncio.run(story()) == [200] * 2 * PER_MINUTE + [429] * 2


def test_instances_share_vectors_and_limits_through_redis(hotel: Hotel, redis_url: str | None) -> None:
    if redis_url is None:
        pytest.skip(NO_REDIS)
    port = free_port()
    on = {"fix.shared_cache": True, "fix.shared_limit": True}
    hotel.send("POST", "/admin/flags", on).raise_for_status()
    env = hotel.backend.env | {"HOTEL_REDIS_URL": redis_url, "HOTEL_FLAGS": ",".join(on)}
    with running("examples.hotel_chat", port, env=env):
        urls = (hotel.url, f"http://127.0.0.1:{port}")
        hotel.backend.reset()
        for url in urls:
            hotel.client.get(f"{url}{CASA}/faq/search?q=Is there a planetarium").raise_for_status()
        assert hotel.backend.ledger()["embedding_calls"] == 1
        body = {"conversation": "flood", "message": "Is there a planetarium"}
        statuses = [
            hotel.client.post(f"{urls[number % 2]}{CASA}/chat", json=body).status_code
            for number in range(PER_MINUTE + 2)
        ]
    hotel.send("POST", "/admin/flags", dict.fromkeys(on, False)).raise_for_status()
    # Where the minute changed meanwhile, the count begins anew.
    assert statuses in ([200] * PER_MINUTE + [429] * 2, [200] * (PER_MINUTE + 2))


def test_a_redis_that_is_gone_is_a_cache_that_misses_and_a_limit_of_ones_own(backend: Backend) -> None:
    port, nowhere = free_port(), free_port()
    flags = "fix.shared_cache,fix.shared_limit"
    env = backend.env | {"HOTEL_REDIS_URL": f"redis://127.0.0.1:{nowhere}/0", "HOTEL_FLAGS": flags}
    with running("examples.hotel_chat", port, env=env), httpx.Client(trust_env=False, timeout=60) as client:
        for _ in range(2):
            body = {"conversation": "alone", "message": "Is there an observatory?"}
            client.post(f"http://127.0.0.1:{port}{CASA}/chat", json=body).raise_for_status()


def test_what_needs_a_redis_is_refused_without_one(backend: Backend) -> None:
    port = free_port()
    with running("examples.hotel_chat", port, env=backend.env), httpx.Client(trust_env=False) as client:
        body = {"fix.shared_limit": True, "fix.pool": True}
        refused = client.post(f"http://127.0.0.1:{port}/admin/flags", json=body)
        assert (refused.status_code, "HOTEL_REDIS_URL" in refused.json()["detail"]) == (422, True)
        assert not any(
            each["on"] for each in client.get(f"http://127.0.0.1:{port}/admin/flags").json().values()
        )
