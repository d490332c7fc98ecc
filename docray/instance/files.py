"""Where an instance keeps what: the data folder and the short-named run folder that Ray's sockets need.

`instance.json` is the contract's: `{"url", "dashboard_url", "data_dir", "api_key", "pid"}`, readable by its owner only.
"""

import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A running instance, as `instance.json` names it."""

    url: str
    dashboard_url: str | None
    data_dir: str
    api_key: str
    pid: int


@dataclass(frozen=True, slots=True)
class InstanceFiles:
    """The paths of one instance."""

    data_dir: Path

    @classmethod
    def of(cls, data_dir: Path) -> "InstanceFiles":
        """Of a data folder, which need not exist yet."""
        return cls(Path(os.path.abspath(data_dir)))

    @property
    def instance(self) -> Path:
        """`instance.json`."""
        return self.data_dir / "instance.json"

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL's cluster."""
        return self.data_dir / "postgres"

    @property
    def logs(self) -> Path:
        """Logs of the supervisor and what it starts."""
        return self.data_dir / "logs"

    @property
    def secrets(self) -> Path:
        """The Ray token and the first key, readable by the owner only."""
        return self.data_dir / "secrets"

    @property
    def lock(self) -> Path:
        """Held by the supervisor while it lives."""
        return self.data_dir / "supervisor.lock"

    @property
    def children(self) -> Path:
        """Process ids that the supervisor started, with their start times, to find leftovers after it was killed."""
        return self.data_dir / "children.json"

    @property
    def cache(self) -> Path:
        """What can be computed again: measurements, downloaded weights."""
        return self.data_dir / "cache"

    @property
    def run(self) -> Path:
        """A short path for sockets: a Unix socket's name holds 107 bytes, a data folder may lie deeper than that."""
        digest = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"docray-{os.getuid()}-{digest}"

    def prepare(self) -> None:
        """Makes the folders, private to the owner. PermissionError when the run folder is somebody else's."""
        for folder in (self.data_dir, self.logs, self.secrets, self.cache, self.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = self.run.lstat()
        if status.st_uid != os.getuid() or self.run.is_symlink():
            raise PermissionError(f"{self.run} belongs to another user; remove it or set TMPDIR")
        self.run.chmod(0o700)
        self.secrets.chmod(0o700)

    def secret(self, name: str) -> str:
        """A random secret of this instance, made at first use."""
        path = self.secrets / name
        if not path.exists():
            self.store_secret(name, secrets.token_hex(32))
        return path.read_text(encoding="utf-8").strip()

    def store_secret(self, name: str, value: str) -> None:
        """Keeps a secret, readable by the owner only."""
        write_private(self.secrets / name, value)

    def read(self) -> Instance | None:
        """What `instance.json` names, None when there is none or it is broken."""
        try:
            return Instance(**json.loads(self.instance.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, instance: Instance) -> None:
        """Writes `instance.json`, whole or not at all."""
        write_private(self.instance, json.dumps(asdict(instance), indent=1))


def write_private(path: Path, text: str) -> None:
    """Replaces a file atomically; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
