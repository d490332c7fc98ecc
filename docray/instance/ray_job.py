"""A bulk run on a Ray cluster, submitted as a job over the dashboard's HTTP, as `ray job submit` does."""

import shlex
from collections.abc import Sequence
from typing import Any

import httpx

_TIMEOUT_S = 30.0
_ENDED = {"SUCCEEDED": 0, "FAILED": 1, "STOPPED": 1}


class NotSubmitted(Exception):
    """The cluster did not take the job; the message says why."""


class ClusterRun:
    """`pipelines.ingest` as a job of a cluster whose image holds docray's checkout as working folder."""

    def __init__(self, dashboard_url: str, token: str | None, arguments: Sequence[str]) -> None:
        """Submits it. NotSubmitted when the cluster does not answer, or refuses."""
        self._url = dashboard_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        entrypoint = shlex.join(["python", "-m", "pipelines.ingest", *arguments])
        told = self._call("POST", "/api/jobs/", {"entrypoint": entrypoint, "metadata": {"job_name": "docray-bulk"}})
        self.submission_id = str(told["submission_id"])

    def told(self) -> str:
        """What it has said so far."""
        return str(self._call("GET", f"/api/jobs/{self.submission_id}/logs").get("logs", ""))

    def exit_code(self) -> int | None:
        """0 or 1 when it has ended, None while it runs."""
        return _ENDED.get(str(self._call("GET", f"/api/jobs/{self.submission_id}")["status"]))

    def stop(self) -> None:
        """Asks the cluster to end it. The same command goes on where it stopped."""
        self._call("POST", f"/api/jobs/{self.submission_id}/stop")

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = httpx.request(method, self._url + path, json=body, headers=self._headers, timeout=_TIMEOUT_S)
            response.raise_for_status()
            found: dict[str, Any] = response.json()
        except httpx.HTTPStatusError as error:
            raise NotSubmitted(f"Ray at {self._url} answered {error.response.status_code}: {error.response.text[:300]}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise NotSubmitted(f"Ray at {self._url} does not answer: {error}") from error
        return found
