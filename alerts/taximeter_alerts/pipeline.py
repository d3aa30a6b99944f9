"""Alerts about the telemetry itself: absent, refused, late, lost, or too much of it."""

from __future__ import annotations

from taximeter_alerts import recording as r
from taximeter_alerts.model import HEARTBEAT, PAGE, TICKET, Alert, grown, ref
from taximeter_alerts.profile import Profile
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c

WATCHDOG = "TaximeterWatchdog"
COLLECTOR_DOWN = "TaximeterCollectorDown"
TELEMETRY_ABSENT = "TaximeterTelemetryAbsent"
AGENT_ERRORS = "TaximeterAgentErrors"


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """The watchdog, what is absent, and what the collector cannot keep up with."""
    jobs = f'{c.JOB}=~"{c.SCRAPE_JOB}|{c.COLLECTOR_JOB}"'
    return [
        Alert(
            WATCHDOG,
            HEARTBEAT,
            "vector(1)",
            "0s",
            "The alerting works",
            "Always fires. Have something outside page you when it stops arriving.",
            "collector",
            by=(),
            empty_when_healthy="",
        ),
        Alert(
            COLLECTOR_DOWN,
            PAGE,
            f"{c.UP}{{{jobs}}} == 0\nor absent({c.UP}{{{jobs}}})",
            p.brief,
            "The collector does not answer",
            f"Prometheus cannot scrape {ref(c.JOB)} {ref(c.INSTANCE)}. Services keep their telemetry for "
            "seconds only; other Taximeter alerts are silent until it is back.",
            "collector",
            by=(),
        ),
        Alert(
            TELEMETRY_ABSENT,
            TICKET,
            f"max by ({c.JOB}) (max_over_time({r.JOB_REQUESTS}[{p.absent}]))\n"
            f"unless max by ({c.JOB}) ({r.JOB_REQUESTS})",
            p.hold,
            f"{ref(c.JOB)} sends no telemetry any more",
            f"It did in the last {p.absent}. It is down, its exporter is misaddressed, or it was removed.",
            "overview",
        ),
        *_collector(t, p),
        *_agent(t, p),
    ]


def _collector(t: Thresholds, p: Profile) -> list[Alert]:
    refused = "\nor\n".join(grown(name, c.JOB, p.short) for name in (c.REFUSED_SPANS, c.REFUSED_POINTS))
    return [
        Alert(
            "TaximeterCollectorRefusing",
            TICKET,
            refused,
            p.brief,
            "The collector refuses telemetry",
            '{{ $value | printf "%.0f" }} items in the last '
            f"{p.short}: its log is full or its memory limit reached. Senders retry, then drop.",
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterCollectorBehind",
            TICKET,
            f"min_over_time({c.QUEUE_SIZE}[{p.short}]) > {t.collector_queue:g}",
            p.hold,
            f"Exporter {ref('exporter')} cannot keep up",
            "{{ $value }} acknowledged requests wait for it. They are safe in the log until it is full.",
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterCollectorLogFilling",
            TICKET,
            f"{c.LOG_BYTES} / {c.LOG_LIMIT} > {t.collector_log_ratio:g}",
            p.brief,
            f"The collector's log of {ref('data_type')} is filling",
            "{{ $value | humanizePercentage }} of its limit; at 100 % it refuses.",
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterCollectorDeadLetters",
            TICKET,
            grown(c.DEAD_LETTERS, "exporter", p.money),
            "0s",
            f"Exporter {ref('exporter')} gave up on requests",
            '{{ $value | printf "%.0f" }} requests were refused for good and are in dead-letters/.',
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterTempoDiscarding",
            TICKET,
            grown(c.TEMPO_DISCARDED, "reason", p.short),
            p.brief,
            f"Tempo discards spans ({ref('reason')})",
            "It answers OK and drops them: raise the limit that the reason names.",
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterClockAhead",
            TICKET,
            f"{c.CLOCK_LEAD} > {t.clock_seconds:g}",
            p.brief,
            f"The clock of {ref('service')} is ahead",
            "{{ $value | humanizeDuration }} ahead: its traces lie in the future, where no "
            "search of the last hour finds them.",
            "collector",
            by=(),
        ),
        Alert(
            "TaximeterCardinalityHigh",
            TICKET,
            f'sum by ({c.JOB}) ({c.SAMPLES}{{{c.JOB}="{c.SCRAPE_JOB}"}}) > {t.series_limit:g}',
            p.hold,
            "The collector shows very many series",
            '{{ $value | printf "%.0f" }} series per scrape. A label holds something unbounded.',
            "collector",
            by=(),
        ),
    ]


def _agent(t: Thresholds, p: Profile) -> list[Alert]:
    return [
        Alert(
            "TaximeterAgentDroppingSpans",
            TICKET,
            grown(c.AGENT_DROPPED, f"{c.JOB}, reason", p.money),
            p.brief,
            f"{ref(c.JOB)} drops spans ({ref('reason')})",
            '{{ $value | printf "%.0f" }} spans did not reach the collector. Metrics are still exact; '
            "traces and the report have gaps.",
            "collector",
        ),
        Alert(
            AGENT_ERRORS,
            TICKET,
            grown(c.AGENT_ERRORS, f"{c.JOB}, {c.HOOK}", p.money),
            p.brief,
            f"The agent in {ref(c.JOB)} fails at {ref(c.HOOK)}",
            '{{ $value | printf "%.0f" }} failures: requests go on, with less telemetry. '
            "The service's log has the first of them.",
            "collector",
        ),
    ]
