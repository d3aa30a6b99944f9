"""Upper bounds of histograms by instrument: one table for the agent and for who reads its buckets. Pure."""

from __future__ import annotations

from typing import Final

from taximeter import semconv

#: The convention's bounds, and 2.0: what the plan calls slow.
HTTP_DURATION_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.0, 2.5, 5.0, 7.5, 10.0),
)
#: Of the request account, in the agent and in the collector.
DB_CALLS_BOUNDS: Final = (0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
COST_BOUNDS: Final = (
    *(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03),
    *(0.1, 0.3, 1.0, 3.0, 10.0),
)
_MODEL_BOUNDS: Final = (
    *(0.01 * 2**power for power in range(8)),
    2.0,
    *(0.01 * 2**power for power in range(8, 14)),
)
#: Bounds by instrument, where those of its author are of little use (or the SDK's, made for milliseconds).
BOUNDS: Final[dict[str, tuple[float, ...]]] = {
    semconv.HTTP_SERVER_REQUEST_DURATION: HTTP_DURATION_BOUNDS,
    "http.client.request.duration": HTTP_DURATION_BOUNDS,
    "http.server.request.body.size": (0, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216),
    semconv.DB_CLIENT_OPERATION_DURATION: (
        *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
        *(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
    ),
    semconv.GEN_AI_CLIENT_OPERATION_DURATION: _MODEL_BOUNDS,
    semconv.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: _MODEL_BOUNDS,
}
