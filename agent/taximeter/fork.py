"""A forked process measures itself: nothing of its parent's is counted twice, nothing of its own lost.

Pre-forking servers (gunicorn, Celery, ``multiprocessing``) start workers from a process in
which the agent already runs. A child inherits the parent's sums, its instance id, its
half-open connections to the collector and locks that another thread held. The SDK restarts its
threads and empties its span queue; what is done here, in the child and before the SDK's threads
run, is the rest: sums begin at 0 under an instance id of its own, connections and locks are
new, and the last export runs when the child ends, as it does in the parent.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from typing import Any

from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage
from opentelemetry.sdk.resources import Resource

from taximeter import account as accounts
from taximeter import export, guard, metering, meters, retry, semconv, shutdown, spanattributes, waiting

_providers: list[Any] = []


def install() -> None:
    """Prepare for forks; call before the providers are built, whose own hooks start threads."""
    # Looked up by the exporting thread when it first connects: a child that was forked in the middle
    # of that import would never find the codec again, and so never export.
    "localhost".encode("idna")
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_in_child)


def renewing(tracers: Any, meter_provider: Any, *logs: Any) -> None:
    """Renew these providers in every process forked from now on."""
    _providers[:] = [tracers, meter_provider, *logs]


def _in_child() -> None:
    if not _providers:
        return
    try:
        guard.renew()
        export.renew()
        waiting.renew()
        spanattributes.renew()
        retry.renew()
        shutdown.renew()
        tracers, meter_provider, *logs = _providers
        tracers._tracers_lock = meter_provider._meter_lock = threading.Lock()
        if not instance_id_given():
            own = Resource({semconv.SERVICE_INSTANCE_ID: str(uuid.uuid4())})
            tracers._update_resource(own)
            meter_provider._update_resource(own)
            for provider in logs:
                provider._active_loggers_lock = threading.Lock()
                provider._update_resource(own)
        _forget_sums(meter_provider)
        _adopt()
        _at_the_end_of_multiprocessing()
    except Exception as error:
        guard.caught("fork", error)


def instance_id_given() -> bool:
    """Whether the user names the instance: then the name holds for every process of the service."""
    return f"{semconv.SERVICE_INSTANCE_ID}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


def _forget_sums(provider: Any) -> None:
    if isinstance(provider, metering.MeterProvider):
        provider.renew()
    consumer = provider._measurement_consumer
    consumer._lock = threading.Lock()
    consumer._reader_storages = {
        reader: MetricReaderStorage(
            provider._sdk_config, reader._instrument_class_temporality, reader._instrument_class_aggregation
        )
        for reader in consumer._reader_storages
    }
    for reader in consumer._reader_storages:
        reader._export_lock = threading.Lock()


def _adopt() -> None:
    """What the child does for the request that forked it is counted at once, by the same route."""
    instruments = meters.get()
    if instruments is not None:
        instruments.renew()
    for account in {accounts.OUTSIDE, accounts.running()}:
        account.renew()
        if instruments is not None:
            account.late = instruments.record


def _at_the_end_of_multiprocessing() -> None:
    """Children of ``multiprocessing`` run its finalizers when they end, and no ``atexit``."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # The registry is emptied when such a child starts, after this has run; hooks are called next.
        util.register_after_fork(shutdown, _finalize)


def _finalize(_: object) -> None:
    from multiprocessing import util  # noqa: PLC0415  (imported already, or this is not called)

    util.Finalize(None, shutdown.flush, exitpriority=0)
