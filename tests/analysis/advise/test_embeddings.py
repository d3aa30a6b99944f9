"""Embeddings: texts embedded again and questions near each other are found, their silent twins are not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.advise.plants import found
from tests.analysis.stores import Builder


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


def test_hashes_under_different_keys_never_agree(tmp_path: Path) -> None:
    build = Builder()
    questions(build, ["wifi"] * 20)
    for number, span in enumerate(each for each in build.spans if each["kind"] == "client"):
        span["evidence_key"] = f"k{number}"
    assert not found(build, tmp_path, "embedding_cache")
