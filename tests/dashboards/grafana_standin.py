"""A small stand-in of Grafana's HTTP API, written from its documentation, in this process.

It knows what `taximeter dashboards` and `taximeter verify` call, no more: health, folders, dashboards,
data sources, and queries, which it passes on to the Prometheus that a data source names. It is not
Grafana: what it accepts a real one may refuse.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass
class State:
    """What this Grafana has."""

    url: str = ""
    token: str | None = None
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """Data source uid to the URL of a Prometheus."""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: PLR0911  (a table of calls)
        if path == "/api/health":
            return 200, {"database": "ok", "version": "stand-in"}
        if found := re.fullmatch(r"/api/folders/([\w-]+)", path):
            known = found[1] in self.folders
            return (200, {"uid": found[1]}) if known else (404, {"message": "folder not found"})
        if (method, path) == ("POST", "/api/folders"):
            self.folders[body["uid"]] = body["title"]
            return 200, body
        if found := re.fullmatch(r"/api/dashboards/uid/([\w-]+)", path):
            model = self.dashboards.get(found[1])
            return (200, {"dashboard": model}) if model else (404, {"message": "Dashboard not found"})
        if (method, path) == ("POST", "/api/dashboards/db"):
            return self._save(body)
        if found := re.fullmatch(r"/api/datasources/uid/([\w-]+)", path):
            known = found[1] in self.sources
            return (200, {"uid": found[1], "type": "prometheus"}) if known else (404, {"message": "no"})
        if (method, path) == ("POST", "/api/ds/query"):
            return self._query(body["queries"][0])
        return 404, {"message": "not found"}

    def _save(self, body: Any) -> tuple[int, Any]:
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        model = body["dashboard"]
        if model.get("id") is not None:
            return 404, {"message": "dashboard id must be null for a new one"}
        version = self.dashboards.get(model["uid"], {}).get("version", 0) + 1
        self.dashboards[model["uid"]] = {**model, "id": len(self.dashboards) + 1, "version": version}
        return 200, {"uid": model["uid"], "url": f"/d/{model['uid']}", "status": "success"}

    def _query(self, query: Any) -> tuple[int, Any]:
        source = self.sources.get(query["datasource"]["uid"])
        if source is None:
            return 404, {"message": "data source not found"}
        try:
            answer = httpx.get(
                f"{source}/api/v1/query", params={"query": query["expr"]}, trust_env=False, timeout=5
            )
        except httpx.HTTPError as error:
            return 400, {"results": {"A": {"error": str(error)}}}
        series = answer.json()["data"]["result"]
        frames = [{"data": {"values": [[one["value"][0]], [float(one["value"][1])]]}} for one in series]
        return 200, {"results": {"A": {"frames": frames}}}


@contextmanager
def grafana() -> Iterator[State]:
    """Listen on loopback until the block ends."""
    state = State()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if state.token and self.headers.get("authorization") != f"Bearer {state.token}":
                code, answer = 401, {"message": "Unauthorized"}
            else:
                code, answer = state.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815  (the base class's spelling)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
