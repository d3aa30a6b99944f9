"""The signature of an embedding vector: 256 bits from which the cosine of two vectors is estimated.

Bit ``i`` says on which side of plane ``i`` the vector lies (SimHash). With ``h`` differing bits
of ``n``, the angle is about ``pi * h / n``. The planes are drawn from the key of the hashes:
without the key a signature says nothing of the vector's direction, and signatures under
different keys cannot be compared.

Computed only where the service has loaded numpy itself: pure Python would stall an event loop
for 15 ms a vector, numpy takes some 30 us. Imports neither numpy nor OpenTelemetry.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from taximeter.hashing import Hasher

BITS: Final = 256
MAX_DIMENSIONS: Final = 8192
_MAX_PLANES: Final = 4  # sets of planes kept, one a number of dimensions (1.5 MB at 1,536)

_planes: dict[tuple[str, int], Any] = {}
_lock = threading.Lock()


def sign(hasher: Hasher, vector: Sequence[float]) -> str | None:
    """The signature, 64 hexadecimal digits; ``None`` without numpy or for no vector of 1 to 8,192 numbers."""
    numpy = sys.modules.get("numpy")
    dimensions = len(vector)
    if numpy is None or not 0 < dimensions <= MAX_DIMENSIONS:
        return None
    array = numpy.asarray(vector, dtype=numpy.float32)
    if array.ndim != 1:
        return None
    planes = _planes.get((hasher.id, dimensions))
    if planes is None:
        if len(_planes) >= _MAX_PLANES:
            return None  # a handful of models choose the dimensions; more is an accident
        planes = _make(numpy, hasher, dimensions)
    signs: Any = numpy.packbits((planes @ array) >= 0)
    return str(signs.tobytes().hex())


def _make(numpy: Any, hasher: Hasher, dimensions: int) -> Any:
    """Planes whose normals have coordinates of 1 and -1, row by row, from the key's stream of bits."""
    bits = numpy.frombuffer(hasher.planes(BITS * dimensions // 8), dtype=numpy.uint8)
    planes = numpy.unpackbits(bits).reshape(BITS, dimensions).astype(numpy.float32) * 2 - 1
    with _lock:
        return _planes.setdefault((hasher.id, dimensions), planes)


def cosine(one: str, other: str) -> float:
    """The estimated cosine of two vectors, by their signatures under the same key."""
    if len(one) != len(other):
        raise ValueError(f"signatures of {len(one) * 4} and {len(other) * 4} bits cannot be compared")
    differing = (int(one, 16) ^ int(other, 16)).bit_count()
    return math.cos(math.pi * differing / (4 * len(one)))
