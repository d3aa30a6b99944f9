"""The gate between a receiver and the log, the same for every protocol.

A request comes out of :meth:`Intake.accept` acknowledged (it is on disk, or was already), or
as a :class:`~taximeter_collector.errors.Refusal`, retryable or not. There is no third way,
and each way is counted. Of a request in which some spans are none (:mod:`.span_check`) the others are
acknowledged, and the sender is told how many were not (OTLP's partial success).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from taximeter_collector.errors import Refusal
from taximeter_collector.log import Log
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.receive.span_check import check, good_spans
from taximeter_collector.signals import SIGNALS, Signal


class Intake:
    """What one receiver hands its requests to. ``logs`` has the signals some pipeline takes from it."""

    def __init__(
        self,
        receiver: str,
        logs: Mapping[str, Log],
        own: OwnMetrics,
        over_limit: Mapping[str, Callable[[], str]],
    ) -> None:
        self.receiver = receiver
        self._logs = logs
        self._own = own
        self._over_limit = over_limit  # signal -> why memory is short, or ""
        for name in logs:
            for transport in ("grpc", "http"):
                for verb in ("accepted", "refused"):
                    self._count(SIGNALS[name], verb, 0, transport)

    @property
    def signals(self) -> list[Signal]:
        return [SIGNALS[name] for name in self._logs]

    async def accept(self, signal: Signal, payload: bytes, transport: str) -> bytes:
        """Validate and store one serialised request; returns the serialised response."""
        try:
            items, payload, rejected, wrong = _read(signal, payload)
        except DecodeError as error:
            message = (
                f"the body ({len(payload)} bytes) is not a valid {signal.request.DESCRIPTOR.name} "
                f"({error}): send protobuf of OTLP 1.x"
            )
            refusal = Refusal("malformed", message, retryable=False)
            raise self.refused(refusal, transport) from error
        if rejected and not items:
            self._reject(signal, rejected, transport)
            message = f"no span of the request ({rejected}) is valid; of the first, {wrong}: mend the sender"
            raise self.refused(Refusal("wrong_spans", message, retryable=False), transport)
        if items:
            try:
                reason = self._over_limit[signal.name]() if signal.name in self._over_limit else ""
                if reason:
                    raise Refusal("memory", reason, retryable=True)
                if not await self._logs[signal.name].append(payload, items, self.receiver):
                    self._own.add(
                        "taximeter_collector_duplicate_requests",
                        receiver=self.receiver,
                        data_type=signal.name,
                    )
            except Refusal as refusal:
                self._count(signal, "refused", items, transport)
                raise self.refused(refusal, transport) from None
            self._count(signal, "accepted", items, transport)
        if not rejected:
            return b""  # a serialised response without partial success is empty
        self._reject(signal, rejected, transport)
        message = f"{rejected} spans are not valid; of the first, {wrong}: mend the sender"
        return _partial(signal, rejected, message)

    def refused(self, refusal: Refusal, transport: str) -> Refusal:
        """Count a refusal; for use as ``raise intake.refused(...)``."""
        name = "refused" if refusal.retryable else "malformed"
        self._own.add(
            f"taximeter_collector_{name}_requests",
            receiver=self.receiver,
            transport=transport,
            reason=refusal.reason,
        )
        return refusal

    def _reject(self, signal: Signal, items: int, transport: str) -> None:
        name = f"taximeter_collector_rejected_{signal.noun}"
        self._own.add(name, items, receiver=self.receiver, transport=transport)

    def _count(self, signal: Signal, verb: str, items: int, transport: str) -> None:
        name = f"otelcol_receiver_{verb}_{signal.noun}"
        self._own.add(name, items, receiver=self.receiver, transport=transport)


def _read(signal: Signal, payload: bytes) -> tuple[int, bytes, int, str]:
    """The right items' number, the request of them alone; how many were wrong, and what with the first."""
    if signal.name != "traces":
        return signal.count(signal.request.FromString(payload)), payload, 0, ""
    items, right = check(payload)
    if right:
        return items, payload, 0, ""
    good = good_spans(payload)
    if good.spans == items:
        return items, payload, 0, ""
    return good.spans, good.payload, items - good.spans, good.wrong


def _partial(signal: Signal, rejected: int, message: str) -> bytes:
    response: Any = signal.response()
    setattr(response.partial_success, signal.rejected_field, rejected)
    response.partial_success.error_message = message
    encoded: bytes = response.SerializeToString()
    return encoded


def unauthenticated(why: str) -> Refusal:
    """The refusal of a sender that is not let in."""
    return Refusal("unauthenticated", f"{why}: this receiver asks for credentials", retryable=False)


def rpc_status(refusal: Refusal) -> status_pb2.Status:
    """The refusal as google.rpc.Status: what both OTLP transports carry in an error."""
    code = code_pb2.UNAVAILABLE if refusal.retryable else code_pb2.INVALID_ARGUMENT
    if refusal.reason == "unauthenticated":
        code = code_pb2.UNAUTHENTICATED
    status = status_pb2.Status(code=code, message=refusal.message)
    if refusal.retryable:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(int(refusal.retry_after_s * 1000))
        status.details.add().Pack(info)
    return status
