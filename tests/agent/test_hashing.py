"""The hashing contract: its vectors, its bounds, and where the key comes from."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import random
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy
import pytest

from taximeter import guard, hashing, hashkey, labels, lookups, prompt, signature
from tests.agent.conftest import ROOT
from tools import evidence_vectors

KEY = b"correct horse battery staple"
HASHER = hashing.Hasher(KEY)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name in ("TAXIMETER_HASH_KEY", "TAXIMETER_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAXIMETER_STATE_DIR", str(tmp_path / "state"))
    hashkey.hasher.cache_clear()
    guard.reset()
    yield tmp_path / "state/hash.key"
    hashkey.hasher.cache_clear()
    guard.reset()


def test_the_committed_vectors_are_those_of_the_code() -> None:
    committed = json.loads((ROOT / "docs/evidence-vectors.json").read_text())
    assert committed == evidence_vectors.vectors()


@pytest.mark.parametrize("key", [b"k", KEY, b"x" * 64, b"y" * 65, b"z" * 500])
def test_it_is_plain_hmac_sha256(key: bytes) -> None:
    for message in (b"", b"a", b"b" * 1000):
        assert hashing.Hasher(key).digest(message) == hmac.new(key, message, hashlib.sha256).digest()
    wanted = hmac.new(key, b"taximeter.v1.text\0breakfast", hashlib.sha256).hexdigest()[:16]
    assert hashing.Hasher(key).text("breakfast") == wanted


def test_spellings_of_one_question_are_one_text() -> None:
    spellings = ("What time is breakfast?", " what  TIME\nis breakfast ", "¿What time is breakfast??")
    assert {HASHER.texts(each)[1] for each in spellings} == {HASHER.text("what time is breakfast")}
    assert hashing.normalise("What time is dinner?") != hashing.normalise(spellings[0])
    assert hashing.normalise("a.b, c") == "a.b, c"  # inside, punctuation stays


def test_values_that_differ_have_bytes_that_differ() -> None:
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    values: list[object] = [
        *(None, True, 1, 1.0, "1", b"1", [1], (1, 2), [[1], 2], [1, [2]], {"1": 1}, {"1": 2}, "", [], {}),
        *(["ab", "c"], ["a", "bc"], "i1:1", date(2026, 11, 26), moment, Decimal("1"), UUID(int=1), 10**400),
    ]
    assert len({hashing.encode(value) for value in values}) == len(values)
    assert hashing.encode((1, "a")) == hashing.encode([1, "a"])
    assert hashing.encode({"b": 1, "a": 2}) == hashing.encode({"a": 2, "b": 1})
    assert hashing.encode(numpy.array([1, 2])) == hashing.encode([1, 2])


def test_whatever_is_hashed_is_bounded() -> None:
    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]
    assert len(hashing.encode(nested)) < 100
    assert len(hashing.encode([[1] * 1_000] * 1_000)) < 10_000
    assert len(hashing.encode("x" * 10**7)) < 33_000
    assert len(hashing.encode(list(range(50)), limit=3)) < 20
    assert HASHER.text("x" * 40_000) != HASHER.text("x" * 40_001)
    huge = {"messages": [{"role": "user", "content": "x" * 10**7}] * 50}
    blocks = prompt.chain(HASHER, prompt.openai(huge)).split()
    assert len(blocks) == prompt.MAX_BLOCKS
    assert len(" ".join(blocks)) < 4_096
    image = {"type": "image_url", "image_url": {"url": "data:" + "x" * 10**7}}
    (part,) = prompt.openai({"messages": [{"role": "user", "content": [image]}]})
    assert len(part[1]) < 5_000
    many = lookups.Lookups(HASHER, 3)
    for number in range(10):
        many.add("c", False, number)
    assert many.text().count("-") == 3


def test_a_key_is_made_once_and_kept_from_others(fresh: Path) -> None:
    key, source = hashkey.find()
    assert (source, stat.S_IMODE(fresh.stat().st_mode)) == ("file", 0o600)
    assert hashkey.find() == (key, "file")
    assert [path.name for path in fresh.parent.iterdir()] == ["hash.key"]
    assert not guard.counts()


def test_the_environment_goes_first_and_a_short_key_is_refused(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TAXIMETER_HASH_KEY", "k" * 16)
    assert hashkey.find() == (b"k" * 16, "environment")
    monkeypatch.setenv("TAXIMETER_HASH_KEY", "short")
    assert hashkey.find()[1] == "file"
    assert "TAXIMETER_HASH_KEY has 5 characters, fewer than 16" in caplog.text


def test_where_no_key_can_be_kept_one_lives_with_the_process(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TAXIMETER_STATE_DIR", "/dev/null/nowhere")
    one = hashkey.hasher()
    assert hashkey.hasher() is one
    assert "A key of this process alone is in force" in caplog.text


def test_an_empty_or_open_key_file_is_told(fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    fresh.parent.mkdir()
    fresh.write_text("")
    assert hashkey.find()[1] == "process"
    fresh.write_text("k" * 32)
    fresh.chmod(0o644)
    assert hashkey.find() == (b"k" * 32, "file")
    assert f"chmod 600 {fresh}" in caplog.text


def test_keys_do_not_agree() -> None:
    other = hashing.Hasher(b"another key of the tests")
    assert other.id != HASHER.id
    assert other.text("breakfast") != HASHER.text("breakfast")


def test_a_signature_estimates_the_cosine_and_needs_the_key() -> None:
    numbers = random.Random(7)
    one = [numbers.gauss(0, 1) for _ in range(1536)]
    other = [value + numbers.gauss(0, 0.33) for value in one]
    real = float(numpy.dot(one, other) / numpy.linalg.norm(one) / numpy.linalg.norm(other))
    signed = [signature.sign(HASHER, vector) for vector in (one, other)]
    assert signed[0] is not None and signed[1] is not None
    assert signature.cosine(signed[0], signed[0]) == 1.0
    assert math.isclose(signature.cosine(signed[0], signed[1]), real, abs_tol=0.08)
    assert signature.sign(HASHER, [2 * value for value in one]) == signed[0]
    foreign = signature.sign(hashing.Hasher(b"another key of the tests"), one)
    assert foreign is not None and abs(signature.cosine(signed[0], foreign)) < 0.4
    with pytest.raises(ValueError, match="256 and 4 bits"):
        signature.cosine(signed[0], "f")


def test_no_signature_without_numpy_or_without_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signature.sign(HASHER, []) is None
    assert signature.sign(HASHER, [0.1] * 10_000) is None
    monkeypatch.delitem(sys.modules, "numpy")
    assert signature.sign(HASHER, [0.1, 0.2]) is None


def test_combinations_of_labels_are_bounded() -> None:
    combined = labels.Combined(2)
    assert combined("ritz", None, "vip") == ("ritz", None, "vip")
    assert combined("savoy", None, None) == ("savoy", None, None)
    assert combined("plaza", None, "vip") == ("other", None, "other")
    assert combined("ritz", None, "vip") == ("ritz", None, "vip")


def test_real_vectors_are_near_by_their_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests' questions embedded by a real model (tools/embedding_fixture.py): pairs of cosine about 0.95."""
    with numpy.load(ROOT / "tests/fixtures/embeddings.npz") as fixture:
        vectors = fixture["vectors"].astype(numpy.float32)
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    first, second = numpy.triu_indices(len(vectors), 1)
    about = abs(cosines[first, second] - 0.95) <= 0.01
    pairs = list(zip(first[about], second[about], strict=True))
    assert len(pairs) >= 40
    errors = []
    for number in range(8):
        monkeypatch.setattr(signature, "_planes", {})
        hasher = hashing.Hasher(f"key number {number} of the test".encode())
        signed = {
            index: signature.sign(hasher, vectors[index])
            for index in {each for pair in pairs for each in pair}
        }
        errors += [signature.cosine(str(signed[a]), str(signed[b])) - cosines[a, b] for a, b in pairs]
    rmse = float(numpy.sqrt(numpy.mean(numpy.square(errors))))
    print(f"cosine at 0.95 by 256 bits: RMSE {rmse:.4f} over {len(pairs)} pairs and 8 keys")
    assert rmse <= 0.02


def test_a_plain_set_is_hashed_as_any_other() -> None:
    texts = ["", "a", "l1:", "x" * 255, "x" * 256, "é", "\ud800"]
    numbers = [0, -1, 10**18, -(2**63), 2**63, 2**64, 10**40, True, None, 1.5]
    sets = [(value,) for value in (*texts, *numbers)] + [(1, "a", 2), (), tuple(range(16)), tuple(range(17))]
    for given in sets:
        whole = HASHER.digest(b"taximeter.v1.value\0" + hashing.encode(given))[:8].hex()
        assert HASHER.value(given) == HASHER.value(list(given)) == whole
    assert HASHER.value((1, 2, 3), limit=3) == HASHER.value((1, 2, 4), limit=3)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5_000])
def test_short_and_long_messages_are_hashed_alike(size: int) -> None:
    assert HASHER.digest(b"x" * size) == hmac.new(KEY, b"x" * size, hashlib.sha256).digest()
