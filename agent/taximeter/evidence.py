"""Evidence without content: what is recorded of inputs, parameters, prompts and vectors.

Each function returns span attributes and no content: keyed hashes (``taximeter.hashing``),
signatures, numbers and the place in the service's code. Every kind has a cap in the settings,
and 0 switches it off. Called only for spans that are recorded. Imports nothing of
OpenTelemetry.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from taximeter import callsite, hashkey, prompt, semconv, settings, signature

Attributes = dict[str, str | int]

MAX_KEY: Final = 1_024  # characters of a single value that may be a key


class Limits(NamedTuple):
    """The caps in force; 0 switches a kind off."""

    inputs: int
    signatures: int
    prompt_blocks: int
    parameters: int
    values: int
    lookups: int
    code: int


#: What one attribute of at most 4,096 characters can hold.
_MOST = Limits(240, 63, prompt.MAX_BLOCKS, 1_000, 240, 100, 4)


@cache
def limits() -> Limits:
    """Read once: the settings do not change while a service runs."""
    names = (f"TAXIMETER_EVIDENCE_{field.upper()}" for field in Limits._fields)
    given = (int(min(settings.number(name), 1e9)) for name in names)
    return Limits(*(min(value, most) for value, most in zip(given, _MOST, strict=True)))


def inputs(given: Any) -> list[Any]:
    """The inputs of an embedding call, whichever way they were given: a text, tokens, or a list of either."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list | tuple):
        return [given] if given and isinstance(given[0], int) else list(given)
    return []


def of_inputs(given: list[Any]) -> Attributes:
    """Hashes of embedding inputs, as they are and normalised, in their order."""
    limit = limits().inputs
    found: Attributes = {semconv.EMBEDDING_INPUTS: len(given)}
    if limit and given:
        hasher = hashkey.hasher()
        exact, normal = [], []
        for each in given[:limit]:
            one, other = hasher.texts(each) if isinstance(each, str) else (hasher.value(each),) * 2
            exact.append(one)
            normal.append(other)
        found[semconv.EVIDENCE_KEY] = hasher.id
        found[semconv.EMBEDDING_INPUT_EXACT] = " ".join(exact)
        found[semconv.EMBEDDING_INPUT_NORMALISED] = " ".join(normal)
    return found


def of_vectors(vectors: Sequence[Any]) -> Attributes:
    """Signatures of the returned vectors, in their order, where the service has loaded numpy."""
    limit = limits().signatures
    if not limit or "numpy" not in sys.modules:
        return {}
    hasher = hashkey.hasher()
    signed = [signature.sign(hasher, _floats(vector)) for vector in vectors[:limit]]
    if not signed or None in signed:
        return {}
    return {semconv.EVIDENCE_KEY: hasher.id, semconv.EMBEDDING_SIGNATURES: " ".join(map(str, signed))}


def _floats(vector: Any) -> Any:
    if isinstance(vector, str):  # asked for in base64: little-endian 32-bit floats
        return sys.modules["numpy"].frombuffer(base64.b64decode(vector), dtype="<f4")
    return vector


def of_prompt(parts: Iterator[prompt.Part]) -> Attributes:
    """The chain of hashes of a prompt's blocks."""
    limit = limits().prompt_blocks
    if not limit:
        return {}
    hasher = hashkey.hasher()
    return {semconv.EVIDENCE_KEY: hasher.id, semconv.PROMPT_BLOCKS: prompt.chain(hasher, parts, limit)}


def of_parameters(parameters: Any) -> Attributes:
    """The hash of a statement's parameters; each single value's too where results are asked for."""
    limit = limits().parameters
    if not limit or not parameters:
        return {}
    hasher = hashkey.hasher()
    found: Attributes = {
        semconv.EVIDENCE_KEY: hasher.id,
        semconv.DB_PARAMETERS_HASH: hasher.value(parameters, limit),
    }
    if limits().values:
        found[semconv.DB_PARAMETERS_VALUES] = _values(parameters)
    return found


def of_rows(rows: Any) -> Attributes:
    """Hashes of the values that a statement returned, first rows first; asked for, since it costs."""
    if not limits().values or not rows:
        return {}
    return {semconv.EVIDENCE_KEY: hashkey.hasher().id, semconv.DB_RESULT_VALUES: _values(rows)}


def _values(nested: Any) -> str:
    """Distinct hashes of the scalars in rows or parameters, as texts, so that 42 and "42" agree; bounded."""
    hasher, limit = hashkey.hasher(), limits().values
    found: dict[str, None] = {}
    for value in _scalars(nested, 0):
        if len(found) >= limit:
            break
        found[hasher.text(value)] = None
    return " ".join(found)


def _scalars(nested: Any, depth: int) -> Iterator[str]:
    """The values as texts, save those that agree by accident (null, true) and those too long for a key."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, list | tuple):
        if depth < 3:
            for each in nested[:1_000]:
                yield from _scalars(each, depth + 1)
    elif isinstance(nested, str):
        if 0 < len(nested) <= MAX_KEY:
            yield nested
    elif isinstance(nested, int | float | Decimal | UUID | date) and not isinstance(nested, bool):
        yield str(nested)


def of_code() -> Attributes:
    """The line of the service's code that is running, and who called it; not to be changed."""
    count = limits().code
    return callsite.find(count, 2).attributes if count else {}
