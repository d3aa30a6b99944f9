"""The few calls of Grafana's HTTP API that are needed, with errors that say what to do.

httpx in place of a client library: see docs/adr/0045. The token is read from the environment or a
file, never from the command line (which other users of the machine can read), and never printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from taximeter_dashboards.model import TAG

FOLDER_UID = TAG
FOLDER_TITLE = "Taximeter"
_TIMEOUT_S = 15.0


class GrafanaError(RuntimeError):
    """Grafana cannot be reached or refused; the message has the call, the answer and what to do."""


_REMEDIES: Mapping[int, str] = {
    401: "give a service account's token in TAXIMETER_GRAFANA_TOKEN",
    403: "the token needs the role Editor (push) or Viewer (diff, verify)",
    412: "somebody else changed it meanwhile: run diff, then push again",
}


class Grafana:
    """One Grafana. ``token`` of a service account; None for one that lets anybody in."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_S)

    def health(self) -> dict[str, Any]:
        """``/api/health``: the version, and whether its database answers."""
        return self._object("GET", "/api/health")

    def data_source(self, uid: str) -> dict[str, Any] | None:
        """A data source by uid, or None."""
        return self._maybe("GET", f"/api/datasources/uid/{uid}")

    def query(self, uid: str, expression: str) -> list[float]:
        """The values of an instant PromQL query that Grafana itself sends to its data source."""
        query = {"refId": "A", "datasource": {"uid": uid}, "expr": expression, "instant": True}
        body = {"queries": [query], "from": "now-5m", "to": "now"}
        answer = self._object("POST", "/api/ds/query", body)
        frames = answer.get("results", {}).get("A", {}).get("frames", [])
        return [float(frame["data"]["values"][1][0]) for frame in frames if frame["data"]["values"][1:]]

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """A dashboard's model by uid, or None."""
        found = self._maybe("GET", f"/api/dashboards/uid/{uid}")
        return None if found is None else dict(found["dashboard"])

    def ensure_folder(self) -> None:
        """Make the folder of our dashboards where it does not exist."""
        if self._maybe("GET", f"/api/folders/{FOLDER_UID}") is None:
            self._object("POST", "/api/folders", {"uid": FOLDER_UID, "title": FOLDER_TITLE})

    def save_dashboard(self, model: Mapping[str, Any]) -> str:
        """Create or replace a dashboard in our folder; returns its address."""
        body = {"dashboard": dict(model), "folderUid": FOLDER_UID, "overwrite": True, "message": "taximeter"}
        return f"{self.url}{self._object('POST', '/api/dashboards/db', body)['url']}"

    def _object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found = self._maybe(method, path, body)
        if found is None:
            raise GrafanaError(f"{self.url} has no {path}: is it a Grafana, and is the URL its root?")
        return found

    def _maybe(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise GrafanaError(f"cannot reach Grafana at {self.url}: {error}; check --url") from error
        if answer.status_code == 404:
            return None
        if answer.is_error:
            remedy = _REMEDIES.get(answer.status_code, "see Grafana's log")
            raise GrafanaError(
                f"Grafana answered {answer.status_code} to {method} {path}: {answer.text[:200]!r}; {remedy}"
            )
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise GrafanaError(f"{self.url}{path} is no Grafana's API: {answer.text[:80]!r}; check --url")
        return found

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


#: What Grafana adds to a model or changes by itself.
_ITS_OWN = ("id", "version", "iteration")


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> list[str]:
    """What a push would change, one line each: a path and both values, at most 20 of them."""
    if theirs is None:
        return ["is not there yet"]
    mine = {key: value for key, value in ours.items() if key not in _ITS_OWN}
    found: list[str] = []
    _compare("", mine, {key: value for key, value in theirs.items() if key not in _ITS_OWN}, found)
    return found if len(found) <= 20 else [*found[:20], f"... and {len(found) - 20} more"]


def _compare(path: str, ours: Any, theirs: Any, found: list[str]) -> None:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in ours:  # what Grafana adds by default is no difference
            _compare(f"{path}.{key}".lstrip("."), ours[key], theirs.get(key), found)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            _compare(f"{path}[{index}]", mine, other, found)
    elif ours != theirs:
        found.append(f"{path}: {_short(theirs)} becomes {_short(ours)}")


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, list) else f"{len(value)} items"
    return text if len(text) <= 60 else f"{text[:57]}..."
