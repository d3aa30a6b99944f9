"""Each detector finds its plant, and says nothing of the silent twin that looks like it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Filters, open_store
from taximeter_analysis.advise import Advice, Finding, advise
from taximeter_analysis.advise.output import as_markdown
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


def test_an_n_plus_one_is_found_with_its_place_and_saving(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    (finding,) = found(build, tmp_path, "n_plus_one", "redundant")
    assert finding.kind == "n_plus_one"
    assert (finding.route, finding.code) == ("GET /rooms", "rooms.py:7 list_rooms")
    assert finding.statements == (RATE,)
    assert "an earlier statement" in finding.what
    calls = finding.savings["db_calls"]
    assert (calls.low, calls.value, calls.high) == (100, 120, 120)  # batched, or joined to the list
    assert finding.savings["duration_s"].holds(20 * 0.026)  # its six calls and what waited for each
    assert finding.tenants == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_same_parameters_are_redundant_and_no_n_plus_one(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build, same=True)
    (finding,) = found(build, tmp_path, "n_plus_one", "redundant")
    assert (finding.kind, finding.savings["db_calls"].value) == ("redundant", 100)


@pytest.mark.parametrize("twin", [{"write": True}, {"wait": True}])
def test_writes_and_loops_that_wait_for_a_model_are_legitimate(tmp_path: Path, twin: dict[str, bool]) -> None:
    build = Builder()
    n_plus_one(build, **twin)
    assert not found(build, tmp_path, "n_plus_one", "redundant")


@pytest.mark.parametrize("values", [True, False])
def test_a_walk_by_keys_is_legitimate(tmp_path: Path, values: bool) -> None:
    """Told by single values where they are recorded, else by the agent from the second step on."""
    build = Builder()
    for number in range(10):
        request = build.request("/pages", number * 1000, 100)
        for page in range(8):
            key, following = f"c{number}-{page}", f"c{number}-{page + 1}"
            row: dict[str, Any] = {"given": (key,), "returned": (following,)}
            if not values:
                walks = {"taximeter.db.walks": "true"} if page > 1 else {}
                row = {"db_parameters": key, "attributes": walks}
            read(build, request, page * 10, 4, RATE, db_rows=1, **row)
    assert not found(build, tmp_path, "n_plus_one", "redundant")


def questions(build: Builder, texts: list[str], *, cached: bool = False) -> None:
    """Requests that embed these texts, each text's hash being itself (normalised: in lower case)."""
    for number, text in enumerate(texts):
        missed = not (cached and text in texts[:number])
        keys = f"embedding={'-' if missed else '+'}{text}/{text.lower()}" if cached else None
        request = build.request("/ask", number * 500, 60, evidence_key="k1", cache_keys=keys)
        if missed:
            build.model(
                request,
                5,
                40,
                operation="embeddings",
                cost=1e-6,
                evidence_key="k1",
                embedding_exact=text,
                embedding_normalised=text.lower(),
            )


def test_texts_embedded_again_are_found_and_the_ceiling_is_told(tmp_path: Path) -> None:
    build = Builder()
    questions(build, ["Wifi", "wifi", "WIFI", "pool", "Pool"] * 6)
    (finding,) = found(build, tmp_path, "embedding_cache")
    calls = finding.savings["embedding_calls"]
    assert calls.value == 28  # 30 asked, 2 different
    assert calls.holds(28)
    assert finding.savings["duration_s"].value == pytest.approx(28 * 0.040)
    assert "the ceiling is 93%" in finding.what


def test_a_cache_with_raw_keys_is_replayed_and_only_spelling_is_advised(tmp_path: Path) -> None:
    build = Builder()
    questions(build, ["Wifi", "wifi", "WIFI", "pool", "Pool"] * 6, cached=True)
    (finding,) = found(build, tmp_path, "embedding_cache")
    assert finding.savings["embedding_calls"].value == 3  # five were embedded, two are different


def test_different_texts_get_no_advice_on_caches(tmp_path: Path) -> None:
    build = Builder()
    questions(build, [f"question {number}".replace(" ", "") for number in range(40)])
    assert not found(build, tmp_path, "embedding_cache", "near_duplicates")


def near(build: Builder, *, asks: bool = True, tenants: int = 1, far: bool = False) -> None:
    """Twenty different questions of which every second one lies within a few bits of another."""
    for number in range(20):
        request = build.request("/ask", number * 500, 160, tenant=f"t{number % tenants}")
        bits = random.Random(number).getrandbits(256) if far else (1 << 255) - 1 if number % 2 else 0
        signed = f"{bits ^ number:064x}"
        text = f"q{number}"
        extra: dict[str, Any] = {"embedding_exact": text, "embedding_normalised": text, "evidence_key": "k1"}
        build.model(request, 5, 40, operation="embeddings", embedding_signatures=signed, **extra)
        if asks:
            row = {"evidence_key": "k1", "prompt_blocks": f"s128:rules u10:{number}"}
            build.model(request, 50, 100, model="gpt-4o-mini", tokens=(150, 100, 0), cost=0.001, **row)


def test_near_questions_are_an_upper_bound_of_the_model_calls(tmp_path: Path) -> None:
    build = Builder()
    near(build)
    (finding,) = found(build, tmp_path, "near_duplicates")
    assert finding.ceiling
    assert (finding.savings["model_calls"].low, finding.savings["model_calls"].high) == (0, 18)
    assert "embedding_calls" not in finding.savings  # the vector is needed to look for a near one


@pytest.mark.parametrize("twin", [{"asks": False}, {"tenants": 20}, {"far": True}])
def test_near_questions_of_others_or_without_an_answer_are_no_duplicates(
    tmp_path: Path, twin: dict[str, Any]
) -> None:
    build = Builder()
    near(build, **twin)
    assert not found(build, tmp_path, "near_duplicates")


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


def test_independent_reads_could_run_at_once(tmp_path: Path) -> None:
    build = Builder()
    sequence(build)
    (finding,) = found(build, tmp_path, "parallel")
    assert finding.statements == (ROOMS, RATE)
    assert finding.savings["duration_s"].value == pytest.approx(30 * 0.017)  # with the 2 ms between them
    assert finding.quantiles["p50"] == pytest.approx((0.060, 0.043))
    assert finding.quantiles["p95"] == pytest.approx((0.060, 0.043))


@pytest.mark.parametrize("twin", ["feed", "computed", "check", "transaction", "condition", "begun"])
def test_reads_that_need_an_answer_or_a_check_are_left_in_turn(tmp_path: Path, twin: str) -> None:
    build = Builder()
    sequence(build, **{twin: True})
    assert not found(build, tmp_path, "parallel")


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


def test_a_name_in_front_of_the_prompt_keeps_hotels_from_sharing_its_cache(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "prompt_cache")
    assert "4 variants" in finding.what
    assert "number 1 (s128" in finding.what
    # 39 warm calls x 11 shared blocks of 128 tokens x half of gpt-4o's rate
    assert finding.savings["cost_usd"].value == pytest.approx(39 * 11 * 128 * 1.25e-6)


def test_openai_caches_in_steps_and_who_marks_has_paid_for_writing(tmp_path: Path) -> None:
    build = Builder()
    chats(build, size=130)
    (finding,) = found(build, tmp_path / "steps", "prompt_cache")
    assert finding.savings["cost_usd"].value == pytest.approx(39 * (1024 + 3 * 128) * 1.25e-6)
    build = Builder()
    chats(build, size=130, marked=True)
    (finding,) = found(build, tmp_path / "marked", "prompt_cache")
    # Written for $3.75 a million each time, it would be read for $0.30.
    assert finding.savings["cost_usd"].value == pytest.approx(39 * 11 * 130 * 3.45e-6)


def test_a_name_behind_the_prompt_shares_it(tmp_path: Path) -> None:
    build = Builder()
    chats(build, name_first=False)
    assert not found(build, tmp_path, "prompt_cache")


def test_long_instructions_are_priced_and_short_ones_are_not_mentioned(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "long_prompt")
    assert finding.ceiling
    assert finding.savings["input_tokens"].value == pytest.approx(40 * 12 * 128 / 2)


@pytest.mark.parametrize("twin", [{"long": False}, {"size": 40}])
def test_instructions_of_less_than_a_page_are_not_long(tmp_path: Path, twin: dict[str, Any]) -> None:
    build = Builder()
    chats(build, **twin)
    assert not found(build, tmp_path, "long_prompt")


def test_the_gain_of_streaming_is_what_the_model_writes(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "streaming")
    gain = sum(0.01 * (20 + number) + 0.899 - 0.05 - 0.2 - 0.01 * (20 + number) for number in range(40))
    assert finding.savings["first_byte_s"].holds(gain)
    build = Builder()
    chats(build, streamed=True)
    assert not found(build, tmp_path / "streamed", "streaming")


def test_a_prompt_asked_twice_is_paid_twice(tmp_path: Path) -> None:
    build = Builder()
    chats(build, twice=True)
    (finding,) = found(build, tmp_path, "asked_twice")
    assert finding.savings["cost_usd"].value == pytest.approx(40 * 0.004)
    build = Builder()
    chats(build)
    assert not found(build, tmp_path / "once", "asked_twice")


def test_attempts_beyond_the_first_are_told(tmp_path: Path) -> None:
    build = Builder()
    chats(build, attempts=3)
    (finding,) = found(build, tmp_path, "retries")
    assert "20 attempts" in finding.what
    build = Builder()
    chats(build)
    assert not found(build, tmp_path / "once", "retries")


@pytest.mark.parametrize(("waited", "findings"), [(0.050, 1), (0.0001, 0)])
def test_waiting_for_the_pool(tmp_path: Path, waited: float, findings: int) -> None:
    build = Builder()
    for number in range(20):
        build.db(build.request("/a", number * 100, 90, pool_wait_s=waited), 60, 5, HOTEL)
    pool = found(build, tmp_path, "pool_wait")
    assert len(pool) == findings
    if pool:
        assert pool[0].savings["duration_s"].holds(20 * waited)


@pytest.mark.parametrize(("slowed", "findings"), [(1, 1), (5, 0)])
def test_a_full_pool_before_a_slow_database_is_left(tmp_path: Path, slowed: int, findings: int) -> None:
    """Bursts of ten that wait, and calls by themselves; with a database that is slower in a burst."""
    build = Builder()
    for number in range(20):
        for _ in range(10):
            request = build.request("/a", number * 1000, 300, pool_wait_s=0.2)
            build.db(request, 210, 8 * slowed, HOTEL)
        for alone in range(15):
            build.db(build.request("/a", number * 1000 + 400 + alone * 30, 12), 1, 8, HOTEL)
    assert len(found(build, tmp_path, "pool_wait")) == findings


@pytest.mark.parametrize(("took", "findings"), [(400, 1), (9, 0)])
def test_a_statement_far_slower_than_the_others(tmp_path: Path, took: float, findings: int) -> None:
    build = Builder()
    for number in range(20):
        build.db(build.request("/a", number * 1000, 10), 1, 3, HOTEL)
    for number in range(5):
        build.db(build.request("/report", number * 1000, took + 5), 1, took, "SELECT count(*) FROM nights")
    slow = found(build, tmp_path, "slow_statement")
    assert len(slow) == findings
    if slow:
        assert slow[0].savings["duration_s"].holds(5 * 0.397)


@pytest.mark.parametrize(("inside", "findings"), [(True, 1), (False, 0)])
def test_a_transaction_held_across_a_model_call(tmp_path: Path, inside: bool, findings: int) -> None:
    build = Builder()
    for number in range(5):
        request = build.request("/book", number * 2000, 900)
        build.db(request, 1, 1, "BEGIN")
        build.db(request, 3, 2, "SELECT * FROM rooms WHERE id = %s FOR UPDATE")
        build.db(request, 850 if inside else 10, 1, "COMMIT")
        build.model(request, 20, 800)
    held = found(build, tmp_path, "transaction_held")
    assert len(held) == findings
    if held:
        assert "800 ms" in held[0].what


@pytest.mark.parametrize(("second", "findings"), [("1", 1), ("2", 0)])
def test_a_model_call_between_two_statements_of_one_transaction(
    tmp_path: Path, second: str, findings: int
) -> None:
    build = Builder()
    for number in range(5):
        request = build.request("/book", number * 2000, 900)
        for at, transaction in ((3, "1"), (850, second)):
            build.db(
                request, at, 2, "SELECT 1 FROM rooms", attributes={"taximeter.db.transaction": transaction}
            )
        build.model(request, 20, 800)
    assert len(found(build, tmp_path, "transaction_held")) == findings


def steady(build: Builder, *, written: bool = False, changing: bool = False) -> None:
    for number in range(60):
        request = build.request("/hotel", number * 500, 20, tenant=f"h{number % 3}")
        answer = f"a{number if changing else number % 3}"
        read(build, request, 1, 8, HOTEL, given=(f"s{number % 3}",), returned=(answer,), db_rows=1)
        if written and number % 10 == 0:
            build.db(build.request("/edit", number * 500, 20), 1, 5, "UPDATE hotels SET name = %s")


def test_a_response_that_never_changes_could_be_remembered(tmp_path: Path) -> None:
    build = Builder()
    steady(build)
    (finding,) = found(build, tmp_path, "steady_response", "steady_read")
    assert finding.kind == "steady_response"  # one finding, not one more for its only statement
    assert finding.savings["db_calls"].value == 57  # 60 within a minute, 3 different


@pytest.mark.parametrize("twin", [{"written": True}, {"changing": True}])
def test_what_is_written_or_changes_is_not_to_be_remembered(tmp_path: Path, twin: dict[str, bool]) -> None:
    build = Builder()
    steady(build, **twin)
    assert not found(build, tmp_path, "steady_response", "steady_read")


def test_what_runs_beside_another_call_saves_its_calls_and_no_time(tmp_path: Path) -> None:
    build = Builder()
    for number in range(60):
        request = build.request("/hotel", number * 500, 60)
        key = f"s{number % 3}"
        read(build, request, 1, 8, HOTEL, given=(key,), returned=(f"a{number % 3}",), db_rows=1)
        read(build, request, 1, 50, RATE, given=(key,), returned=(f"r{number}",), db_rows=1)
    (finding,) = found(build, tmp_path, "steady_read")
    assert finding.savings["db_calls"].value == 57
    assert finding.savings["duration_s"].value == 0


def test_small_steady_reads_are_one_finding_together(tmp_path: Path) -> None:
    """Three statements, each too little by itself."""
    build = Builder()
    for number in range(600):
        request = build.request("/stay", number * 50, 100)
        read(build, request, 1, 8, RATE, given=(f"g{number}",), returned=(f"r{number}",), db_rows=1)
        for table in range(3 if number % 25 == 0 else 0):
            statement = f"SELECT * FROM static{table} WHERE id = %s"
            read(build, request, 10 + 10 * table, 8, statement, given=("s",), returned=("a",), db_rows=1)
    (finding,) = found(build, tmp_path, "steady_read")
    assert len(finding.statements) == 3
    assert finding.savings["db_calls"].value == 3 * 23


def test_the_statement_of_a_loop_is_no_steady_read_as_well(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    assert [each.kind for each in advice(build, tmp_path).findings if RATE in each.statements] == [
        "n_plus_one"
    ]


@pytest.mark.parametrize(("share", "said"), [(0.3, True), (0.004, False)])
def test_what_saves_too_little_is_left_out_and_counted(tmp_path: Path, share: float, said: bool) -> None:
    """A read that never changes, beside many that do."""
    build = Builder()
    for number in range(1000):
        request = build.request("/stay", number * 50, 100)
        if number < share * 1000 or number < 40:
            read(build, request, 1, 8, HOTEL, given=(f"s{number % 3}",), returned=("a",), db_rows=1)
        read(build, request, 10, 80, RATE, given=(f"g{number}",), returned=(f"r{number}",), db_rows=1)
    result = advice(build, tmp_path)
    assert [each.kind for each in result.findings] == ["steady_read"] * said
    assert [each.kind for each in result.small] == ["steady_read"] * (not said)
    assert ("in the JSON alone" in as_markdown(result)) is not said


def answered(
    build: Builder, *, history: bool = False, tenants: int = 2, texts: int = 5, model: str = "gpt-4o"
) -> None:
    """Forty conversations that begin with one of five questions, asked of a dear model."""
    for number in range(40):
        text = f"q{(number // tenants) % texts}"
        request = build.request(
            "/chat", number * 1000, 900, tenant=f"t{number % tenants}",
            evidence_key="k1", cache_keys=f"embedding=+{text}/{text}",
        )  # fmt: skip
        blocks = f"s128:rules {'u8:before a9:answer ' if history else ''}u10:{number}"
        row: dict[str, Any] = {"evidence_key": "k1", "prompt_blocks": blocks}
        build.model(request, 50, 800, model=model, tokens=(1500, 100, 0), cost=0.005, **row)


def test_questions_answered_before_could_be_answered_from_memory(tmp_path: Path) -> None:
    build = Builder()
    answered(build)
    (finding,) = found(build, tmp_path, "answer_cache")
    assert finding.savings["model_calls"].value == 40 - 2 * 5
    assert finding.savings["cost_usd"].value == pytest.approx(30 * 0.005)


@pytest.mark.parametrize("twin", [{"history": True}, {"tenants": 40}, {"texts": 40}])
def test_what_has_a_history_or_another_tenant_is_answered_anew(tmp_path: Path, twin: dict[str, Any]) -> None:
    build = Builder()
    answered(build, **twin)
    assert not found(build, tmp_path, "answer_cache")


def test_common_questions_to_a_dear_model_are_priced_at_the_cheaper_one(tmp_path: Path) -> None:
    build = Builder()
    answered(build)
    (finding,) = found(build, tmp_path, "cheaper_model")
    # gpt-4o-mini: 0.15 and 0.60 dollars a million
    assert finding.savings["cost_usd"].value == pytest.approx(40 * (0.005 - 1500 * 0.15e-6 - 100 * 0.6e-6))
    assert finding.ceiling


@pytest.mark.parametrize("twin", [{"texts": 40}, {"model": "gpt-4o-mini"}])
def test_rare_questions_and_cheap_models_are_left_where_they_are(
    tmp_path: Path, twin: dict[str, Any]
) -> None:
    build = Builder()
    answered(build, **twin)
    assert not found(build, tmp_path, "cheaper_model")


def test_hashes_under_different_keys_never_agree(tmp_path: Path) -> None:
    build = Builder()
    questions(build, ["wifi"] * 20)
    for number, span in enumerate(each for each in build.spans if each["kind"] == "client"):
        span["evidence_key"] = f"k{number}"
    assert not found(build, tmp_path, "embedding_cache")


def test_a_clean_service_gets_no_findings(tmp_path: Path) -> None:
    build = Builder()
    for number in range(200):
        request = build.request("/a", number * 100, 20, tenant="t")
        given, returned = (f"g{number}",), (f"r{number}",)
        read(build, request, 2, 5, "SELECT a FROM t WHERE k = %s", given=given, returned=returned, db_rows=1)
        read(build, request, 9, 5, "UPDATE t SET a = %s", given=returned)
    assert not advice(build, tmp_path).findings


def test_one_tenant_alone(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    one = advice(build, tmp_path, tenant="b")
    (finding,) = [each for each in one.findings if each.kind == "n_plus_one"]
    assert (one.requests, finding.requests, finding.savings["db_calls"].value) == (5, 5, 30)


@pytest.mark.parametrize("plant", [n_plus_one, chats, steady, sequence])
def test_every_prediction_lies_within_its_bounds_and_below_the_whole(
    tmp_path: Path, plant: Callable[[Builder], None]
) -> None:
    build = Builder()
    plant(build)
    result = advice(build, tmp_path)
    assert result.findings
    for finding in result.findings:
        for metric, each in finding.savings.items():
            assert 0 <= each.low <= each.value <= each.high
            assert each.value <= result.totals[metric] * (1 + 1e-9)
