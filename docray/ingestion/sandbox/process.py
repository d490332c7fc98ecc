"""The client's end of one parser server: starts it, hands it files, reads what children write, learns how they ended.

Low level: which job module the server loads is an argument here and nowhere else, so that tests can run probes inside the sandbox.
Owns the process, the control socket and the pipes. Leaves retries, limits of size and the meaning of frames to `client`.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from docray.ingestion.sandbox import wire

PRODUCT_JOBS = "docray.ingestion.sandbox.jobs"
_START_TIMEOUT_S = 60.0  # loading both engines takes two seconds here; a cold disk in a busy container takes longer
_STOP_TIMEOUT_S = 5.0
_GRACE_S = 10.0  # on top of a job's time: the server keeps the clock, this is for a server that does not answer
_MAX_MESSAGE_BYTES = 1 << 16
# Nothing of our own environment. Threads would make forking unsafe (OpenBLAS), and liteparse's allocator would reserve 1 GiB of address
# space at once (mimalloc's arenas; in KiB), which a memory limit counts.
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MIMALLOC_ARENA_RESERVE": "32768",
    "TOKIO_WORKER_THREADS": "1",
}
_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from docray.ingestion.sandbox.server import main;main(int(sys.argv[2]),*sys.argv[3:])"


class ServerDied(Exception):
    """The parser server is gone, and with it the child."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the server found: engines, liteparse, and what confines a child here (Landlock's version, 0 for none)."""

    engines: tuple[str, ...]
    structure: bool
    landlock: int
    seccomp: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: the signal (0: by itself), whether the server's clock killed it, the most memory it held."""

    signal: int
    timed_out: bool
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One job: its name and arguments in the server's job module, and its limits."""

    job: str
    arguments: Mapping[str, Any]
    time_s: float
    memory_bytes: int


class ParserProcess:
    """One server process. Not restarted here: once it is gone every call raises `ServerDied`."""

    def __init__(self, *, engine: str, jobs: str = PRODUCT_JOBS) -> None:
        self._engine = engine
        self._jobs = jobs
        self._ids = itertools.count(1)
        self._endings: dict[int, asyncio.Future[Ending]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[Abilities] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """Whether the control socket is open."""
        return self._control is not None

    async def start(self) -> Abilities:
        """Starts the server and waits until its engines are loaded. ServerDied when that fails."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._spawn(theirs.fileno())
        ours.setblocking(False)
        self._control = ours
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(ours.fileno(), self._on_message)
        try:
            return await asyncio.wait_for(self._ready, _START_TIMEOUT_S)
        except TimeoutError as error:
            await self.close()
            raise ServerDied from error
        except BaseException:
            await self.close()
            raise

    def _spawn(self, control: int) -> subprocess.Popen[bytes]:
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        return subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, paths, str(control), self._jobs, self._engine],
            env=_ENVIRONMENT,
            cwd="/",
            pass_fds=(control,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def close(self) -> None:
        """Ends the server, its children with it, and waits for it."""
        self._lose_server()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def frames(self, task: Task, path: Path) -> AsyncGenerator[tuple[bytes, bytes] | Ending, None]:
        """Runs one child over the file: its frames, last how it ended. Leaving early or cancelling kills it.

        Raises ServerDied, and `wire.WireError` for a frame that is too long.
        """
        id_, ended = next(self._ids), asyncio.get_running_loop().create_future()
        self._endings[id_] = ended
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            try:
                with os.fdopen(writing, "wb", buffering=0), _opened(path) as file:
                    await self._send({"op": "start", "id": id_, **asdict(task)}, (file.fileno(), writing))
                async with asyncio.timeout(task.time_s + _GRACE_S):
                    async with contextlib.aclosing(_frames_of(pipe)) as frames:
                        async for frame in frames:
                            yield frame
                    yield await asyncio.shield(ended)
            except TimeoutError as error:
                self._lose_server()  # it neither killed the child nor told of its end
                raise ServerDied from error
            finally:
                self._endings.pop(id_, None)
                if not ended.done():
                    await self._kill(id_)
                    ended.cancel()

    async def _kill(self, id_: int) -> None:
        with contextlib.suppress(ServerDied):
            await asyncio.shield(self._send({"op": "kill", "id": id_}))

    async def _send(self, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        body = wire.pack(message)
        while True:
            if self._control is None:
                raise ServerDied
            try:
                socket.send_fds(self._control, [body], list(descriptors))
                return
            except BlockingIOError:  # the server is busy forking; its queue holds some hundred messages
                await asyncio.sleep(0.01)
            except OSError as error:
                self._lose_server()
                raise ServerDied from error

    def _on_message(self) -> None:
        control = self._control
        if control is None or self._ready is None:
            return
        try:
            body = control.recv(_MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            body = b""
        if not body:
            self._lose_server()
            return
        message = wire.unpack(body)
        if message["event"] == "ready" and not self._ready.done():
            self._ready.set_result(Abilities(tuple(message["engines"]), message["structure"], message["landlock"], message["seccomp"]))
        elif message["event"] == "ended":
            ended = self._endings.get(message["id"])
            if ended is not None and not ended.done():
                ended.set_result(Ending(message["signal"], message["timed_out"], message["peak_bytes"]))

    def _lose_server(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        for waiting in (self._ready, *self._endings.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ServerDied())
                waiting.exception()  # nobody may be waiting any more


def _opened(path: Path) -> FileIO:
    return open(path, "rb", buffering=0)


async def _frames_of(pipe: Any) -> AsyncGenerator[tuple[bytes, bytes], None]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while True:
            try:
                kind, length = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))
                if length > wire.MAX_FRAME_BYTES:
                    raise wire.WireError("a frame is too long")
                yield kind, await reader.readexactly(length)
            except asyncio.IncompleteReadError:
                return
    finally:
        transport.close()
