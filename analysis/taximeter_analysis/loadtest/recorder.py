"""Locust with a listener: ``python -m taximeter_analysis.loadtest.recorder FILE <locust's options>``.

Runs in a process of its own (Locust replaces the standard library's sockets). Every request goes to
FILE as a JSON line, and so does, once a second, what this very process spends: share of a core, and
by how much a sleep overshoots. A load generator that is out of CPU measures itself; these lines are
how the caller finds out. Workers hand their lines to the master with their regular reports, and the master
waits for the last one of each: Locust's own would leave after half a second, without what is under way.
"""

# mypy: disable-error-code="no-untyped-call"
# Locust is untyped where we touch it: its event hooks and its main.

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import gevent
import locust.main
from locust import events
from locust.rpc import Message
from locust.runners import STATE_STOPPED, MasterRunner, WorkerRunner

_NAP_S = 0.1
_KEY = "taximeter"
_LAST = "taximeter_last"
_SPARE_S = 10.0


class Recorder:
    """Collects lines; the process that has the file writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[list[Any]] = []
        self.file: TextIO | None = None
        self.stopped = lambda: False  # whether all guests of this worker have ended
        self.ended: set[str] = set()  # workers from which nothing more will come

    def request(
        self,
        request_type: str,
        name: str,
        response_time: float,
        exception: Exception | None,
        start_time: float | None = None,
        **_: object,
    ) -> None:
        """One answer: ``["request", start, label, seconds, failed]``."""
        seconds = response_time / 1000
        start = time.time() - seconds if start_time is None else start_time
        self.lines.append(["request", start, f"{request_type} {name}", seconds, int(exception is not None)])

    def watch(self) -> None:
        """Once a second: ``["own", time, process, share of a core, worst overshoot of a sleep]``."""
        while True:
            wall, cpu, late = time.monotonic(), time.process_time(), 0.0
            while time.monotonic() - wall < 1.0:
                before = time.monotonic()
                gevent.sleep(_NAP_S)
                late = max(late, time.monotonic() - before - _NAP_S)
            share = (time.process_time() - cpu) / (time.monotonic() - wall)
            self.lines.append(["own", time.time(), os.getpid(), round(share, 3), round(late, 4)])
            self.flush()

    def flush(self) -> None:
        """Write what is there, unless this is a worker: its lines travel with its reports."""
        if self.file is not None:
            lines, self.lines = self.lines, []
            self.file.writelines(json.dumps(line) + "\n" for line in lines)
            self.file.flush()

    def report(self, client_id: str, data: dict[str, Any]) -> None:
        """A worker's regular report is about to leave."""
        del client_id
        data[_LAST] = self.stopped()
        data[_KEY], self.lines = self.lines, []

    def receive(self, client_id: str, data: dict[str, Any]) -> None:
        """The master got one."""
        self.lines += data.pop(_KEY, [])
        if data.pop(_LAST, False):
            self.ended.add(client_id)

    def drain(self, environment: Any, **_: object) -> None:
        """The time is over: let the workers' guests come to an end, and take the workers' last lines."""
        runner = environment.runner
        if not isinstance(runner, MasterRunner):
            return
        awaited = {client.id for client in runner.clients.all}
        for name in awaited:
            runner.server.send_to_client(Message("quit", None, name))
        end = time.monotonic() + (environment.stop_timeout or 0) + _SPARE_S
        while awaited - self.ended and time.monotonic() < end:
            gevent.sleep(_NAP_S)
        self.flush()

    def start(self, environment: Any, **_: object) -> None:
        """Locust is set up: in this process, or in a worker that was forked from it."""
        if isinstance(environment.runner, WorkerRunner):
            self.stopped = lambda: environment.runner.state == STATE_STOPPED
        else:
            self.file = self.path.open("a", encoding="utf-8")
        # The loop's clock still stands where the imports began: the run's end would come as much too soon.
        gevent.get_hub().loop.update_now()
        gevent.spawn(self.watch)


def main() -> None:
    """Register the listener and hand over to Locust."""
    path, *sys.argv[1:] = sys.argv[1:]
    recorder = Recorder(Path(path))
    events.init.add_listener(recorder.start)
    events.request.add_listener(recorder.request)
    events.report_to_master.add_listener(recorder.report)
    events.worker_report.add_listener(recorder.receive)
    events.test_stop.add_listener(recorder.drain)
    events.quit.add_listener(lambda **_: recorder.flush())
    locust.main.main()


if __name__ == "__main__":
    main()
