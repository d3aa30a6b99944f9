"""Evidence on real parts: what a service's spans tell without its words, and the account of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter import hashing
from tests.agent.conftest import HASH_KEY, Start
from tests.agent.receiver import Receiver, Span
from tests.redis_server import NO_REDIS, running_redis

SECRET = "Mrs Dalloway said she would buy the flowers herself"  # as in evidence_app
HASHER = hashing.Hasher(HASH_KEY.encode())


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A real Redis, where there is one."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def run(receiver: Receiver, start: Start, database: str, redis_url: str | None) -> Iterator[Receiver]:
    service = start(
        "evidence_app",
        DATABASE_URL=database,
        REDIS_URL=redis_url or "",
        TAXIMETER_EVIDENCE_VALUES="16",
        TAXIMETER_REDIS_CACHES="embedding=emb:",
        TAXIMETER_BAGGAGE="tenant=hotel.id,feature,colour",
    )
    paths = (
        "/embed",
        "/prompts",
        "/statements",
        "/asyncpg",
        "/transactions",
        "/walks",
        "/waiting",
        "/caches",
        *(("/redis",) if redis_url else ()),
    )
    for path in paths:
        assert service.get(path).status_code == 200, service.log()
    service.get("/who?segment=vip", baggage="hotel.id=ritz,feature=faq,secret=hush")
    service.stop()
    assert "Taximeter failed" not in service.log()
    assert "TAXIMETER_BAGGAGE: 'colour' is left out" in service.log()
    yield receiver


def server(run: Receiver, route: str) -> Span:
    (span,) = run.servers(route)
    return span


def below(run: Receiver, route: str, attribute: str) -> list[Span]:
    found = [span for span in run.under(server(run, route)) if attribute in span.attributes]
    return sorted(found, key=lambda span: span.start)


def test_statements_of_one_transaction_have_its_number(run: Receiver) -> None:
    statements = below(run, "/transactions", "db.response.returned_rows")
    one, two, three, four = (span.attributes.get("taximeter.db.transaction") for span in statements)
    assert one == two != three
    assert three is not None
    assert four is None


def test_a_walk_is_told_from_a_loop_by_its_last_answer(run: Receiver) -> None:
    statements = below(run, "/walks", "taximeter.db.parameters.hash")
    told = [bool(span.attributes.get("taximeter.db.walks")) for span in statements]
    climbed = [False, False, True, True, True]  # what is sent once is not looked at
    assert told == climbed + [False] * 5 + climbed


def test_what_asyncpg_returned_is_known_again_as_a_parameter(run: Receiver) -> None:
    first, *others = below(run, "/asyncpg", "db.response.returned_rows")
    returned = first.attributes["taximeter.db.result.values"].split()
    given = [span.attributes["taximeter.db.parameters.values"] for span in others]
    assert len(given) == 2
    assert set(given) <= set(returned)


def test_no_word_of_a_text_is_exported(run: Receiver) -> None:
    everything = str([(span.name, span.attributes) for span in run.spans]).lower()
    for word in ("dalloway", "flowers", "concierge", "savoy"):
        assert word not in everything
    assert "hush" not in everything


def test_embedding_inputs_are_hashed_as_they_are_and_normalised(run: Receiver) -> None:
    one, three, tokens = below(run, "/embed", "taximeter.embedding.inputs")
    exact, normal = HASHER.texts(SECRET)
    assert one.attributes["taximeter.evidence.key"] == HASHER.id
    assert one.attributes["taximeter.embedding.input.exact"] == exact
    assert three.attributes["taximeter.embedding.inputs"] == 3
    exacts = three.attributes["taximeter.embedding.input.exact"].split()
    normals = three.attributes["taximeter.embedding.input.normalised"].split()
    assert exacts[0] != exact and exacts[1] == exact
    assert normals[0] == normals[1] == normal != normals[2]
    assert tokens.attributes["taximeter.embedding.inputs"] == 1
    assert tokens.attributes["taximeter.embedding.input.exact"] == HASHER.value([1, 2, 3])


def test_the_returned_vector_is_signed(run: Receiver) -> None:
    signatures = {
        span.attributes["taximeter.embedding.signatures"]
        for span in below(run, "/embed", "taximeter.embedding.inputs")
    }
    assert [len(signature) for signature in signatures] == [64]  # the stand-in has one vector


def test_inputs_and_duplicates_are_on_the_account(run: Receiver) -> None:
    attributes = server(run, "/embed").attributes
    assert attributes["taximeter.request.embedding.calls"] == 3
    assert attributes["taximeter.request.embedding.inputs"] == 5
    assert attributes["taximeter.request.embedding.duplicates"] == 1  # as it is, not normalised
    assert run.total("taximeter.request.embedding.inputs", http_route="/embed") == 5
    assert run.total("taximeter.request.embedding.duplicates", http_route="/embed") == 1


def test_the_first_block_that_differs_can_be_found(run: Receiver) -> None:
    first, second, response, message = (
        [block.split(":") for block in span.attributes["taximeter.prompt.blocks"].split()]
        for span in below(run, "/prompts", "taximeter.prompt.blocks")
    )
    roles = [block[0] for block in first]
    assert roles == ["s128", "s128", "s128", "s54", "u4"]  # 1,750 characters and a question
    assert [one == other for one, other in zip(first, second, strict=True)] == [True] * 4 + [False]
    assert response == second  # the same parts by another API
    assert [block[0] for block in message] == ["s128", "s128", "s128", "s54*", "u13"]
    assert [block[1] for block in message] == [block[1] for block in second]


def test_parameters_and_rows_tell_redundant_from_repeated(run: Receiver) -> None:
    listing, *looked = below(run, "/statements", "db.response.returned_rows")
    hashes = [span.attributes["taximeter.db.parameters.hash"] for span in looked]
    assert hashes[0] != hashes[1] and hashes[0] == hashes[2]
    assert "taximeter.db.parameters.hash" not in listing.attributes  # it has none
    assert listing.attributes["db.response.returned_rows"] == 4
    assert looked[0].attributes["db.response.returned_rows"] == 1


def test_a_parameter_is_recognised_in_an_earlier_result(run: Receiver) -> None:
    listing, first, *_ = below(run, "/statements", "db.response.returned_rows")
    returned = listing.attributes["taximeter.db.result.values"].split()
    given = first.attributes["taximeter.db.parameters.values"].split()
    assert given[0] in returned
    assert given[1] == HASHER.text(SECRET) and given[1] not in returned


def test_a_call_says_where_in_the_service_it_was_made(run: Receiver) -> None:
    source = Path(__file__).with_name("evidence_app.py").read_text().splitlines()
    for route, attribute, text, function in (
        ("/statements", "taximeter.db.parameters.hash", "connection.execute(", "statements"),
        ("/embed", "taximeter.embedding.inputs", "embeddings.create(", "embed"),
        ("/prompts", "taximeter.prompt.blocks", "chat.completions.create(", "prompts"),
    ):
        attributes = below(run, route, attribute)[0].attributes
        assert attributes["code.file.path"] == "tests/agent/evidence_app.py"
        assert text in source[attributes["code.line.number"] - 1]
        assert attributes["code.function.name"] == function
    first = below(run, "/waiting", "code.line.number")[0]
    assert first.attributes["code.function.name"] == "waiting.<locals>.one"


def test_waiting_for_a_connection_is_on_the_account(run: Receiver) -> None:
    waited = server(run, "/waiting").attributes["taximeter.request.pool.wait"]
    assert 0.15 < waited < 30
    assert run.total("taximeter.request.pool.wait", http_route="/waiting") == pytest.approx(waited)
    assert run.count("db.client.connection.wait_time") == 4
    assert server(run, "/statements").attributes["taximeter.request.pool.wait"] < 0.15


def lookups(span: Span) -> dict[str, list[str]]:
    return {
        name: each.split(",")
        for name, each in (
            cache.split("=") for cache in span.attributes["taximeter.cache.lookups"].split(" ")
        )
    }


def signs(entries: list[str]) -> str:
    return "".join(entry[0] for entry in entries)


def test_lookups_are_recorded_by_cache_with_the_hash_of_their_key(run: Receiver) -> None:
    span = server(run, "/caches")
    found = lookups(span)
    exact, normal = HASHER.texts(SECRET)
    assert found["embedding"][:2] == [f"-{exact}/{normal}", f"+{exact}/{normal}"]
    assert found["embedding"][2].endswith(f"/{normal}") and exact not in found["embedding"][2]
    assert signs(found["policies"]) == "--+"
    assert found["policies"][0] == f"-{HASHER.text('ritz')}" != found["policies"][1]
    assert signs(found["tests.agent.evidence_app.price"]) == "--+"
    assert signs(found["tests.agent.evidence_app"]) == "-++"  # .get, [], .get
    assert signs(found["answers"]) == "-+"
    assert "unkeyed" not in found
    assert span.attributes["taximeter.request.cache.lookups"] == 15
    assert span.attributes["taximeter.request.cache.hits"] == 8
    assert run.total("taximeter.request.cache.lookups", taximeter_cache="answers") == 2
    assert run.total("taximeter.request.cache.hits", taximeter_cache="policies") == 1


def test_redis_is_seen_by_itself(run: Receiver, redis_url: str | None) -> None:
    if redis_url is None:
        pytest.skip(NO_REDIS)
    found = lookups(server(run, "/redis"))
    assert signs(found["embedding"]) == "-+++"
    assert len({entry[1:] for entry in found["embedding"]}) == 1
    assert signs(found["redis"]) == "--"
    assert run.total("taximeter.request.cache.hits", taximeter_cache="embedding", http_route="/redis") == 3


def test_baggage_on_the_list_and_attributes_reach_spans_and_money(run: Receiver) -> None:
    span = server(run, "/who")
    for each in (span, *below(run, "/who", "gen_ai.usage.cost.amount")):
        assert each.attributes["taximeter.tenant"] == "ritz"
        assert each.attributes["taximeter.feature"] == "faq"
        assert each.attributes["taximeter.segment"] == "vip"
    who = {"taximeter_tenant": "ritz", "taximeter_feature": "faq", "taximeter_segment": "vip"}
    assert run.total("taximeter.cost_usd", **who) == span.attributes["taximeter.request.cost"] > 0
    assert run.total("taximeter.request.tokens.input", **who) == 1000
