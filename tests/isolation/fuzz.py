"""Sends what the generator makes and judges the answers: nothing foreign in them, and foreign looks like absent.

Every attacker sends one request at a time, all attackers at once. Times are kept for a figure; nothing is decided by them.
"""

import asyncio
import base64
import contextlib
import json
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.integration.api_harness import events_of
from tests.isolation.requests import Generator, Operation, Position, Request
from tests.isolation.world import TOKEN, USERS, Owner, World

_VOLATILE = {"request_id", "timings_ms", "created_at", "updated_at", "ready_at", "added_at", "last_used_at", "revoked_at", "id", "sha256",
             "size_bytes", "secret", "prefix"}  # fmt: skip
_HEADERS = ("content-type", "idempotent-replayed", "retry-after", "content-disposition", "content-range", "content-length", "location", "allow")
_CREATED = {("POST", "/v1/documents"): "document", ("POST", "/v1/collections"): "collection", ("POST", "/v1/api-keys"): "key"}
_LISTS = {"/v1/documents": "d", "/v1/collections": "c", "/v1/api-keys": "k", "/v1/jobs": "b", "/v1/reindexes": "r",
          "/v1/collections/{collection_id}/documents": "m"}  # fmt: skip


@dataclass(kw_only=True)
class Report:
    """What a run found. `leaks` and `differences` are empty when all is well."""

    leaks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    sent: int = 0
    pairs: int = 0
    positions: set[Position] = field(default_factory=set)
    statuses: dict[Operation, Counter[int]] = field(default_factory=dict)
    own_tokens: int = 0  # answers that showed something of one's own: the fuzz is not talking to a wall
    foreign_s: list[float] = field(default_factory=list)
    absent_s: list[float] = field(default_factory=list)

    def figure(self) -> str:
        """The run in a sentence."""
        foreign, absent = (statistics.median(times) * 1000 if times else 0.0 for times in (self.foreign_s, self.absent_s))
        apart = statistics.median([a - b for a, b in zip(self.foreign_s, self.absent_s, strict=True)]) * 1000 if self.foreign_s else 0.0
        return (
            f"{self.sent} requests, {self.pairs} pairs, {len(self.positions)} places attacked, {self.own_tokens} answers with own data;"
            f" {len(self.leaks)} leaks, {len(self.differences)} differences between foreign and absent;"
            f" median of a 404: foreign {foreign:.2f} ms, absent {absent:.2f} ms, median difference {apart:+.3f} ms"
        )


async def fuzz(world: World, requests: int, dice: random.Random) -> Report:
    """So many requests by all attackers together; the first ones attack every place once."""
    described = world.app.openapi()
    report = Report()
    each = -(-requests // len(world.attackers))
    attackers = [_Attacker(world, described, owner, random.Random(dice.random()), report) for owner in world.attackers]
    every = sorted(places(world))
    async with asyncio.TaskGroup() as group:
        for place, attacker in enumerate(attackers):
            group.create_task(attacker.run(each, every[place :: len(attackers)]))
    return report


class _Attacker:
    def __init__(self, world: World, described: Mapping[str, Any], owner: Owner, dice: random.Random, report: Report) -> None:
        self._world = world
        self._owner = owner
        self._dice = dice
        self._report = report
        self._generator = Generator(world, described, owner, dice)

    async def run(self, requests: int, certain: Sequence[Position]) -> None:
        """Attacks certain places, then what chance wants, until so many requests are sent."""
        transport = httpx.ASGITransport(self._world.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://docray") as client:
            sent = 0
            for must in certain:
                request = self._generator.make(hostile=True, must=must)
                assert request is not None
                sent += await self._attack(client, request)
            while sent < requests:
                request = self._generator.make(hostile=self._dice.random() < 0.75)
                if request is not None:
                    sent += await (self._attack(client, request) if request.hostile else self._use(client, request))

    async def _use(self, client: httpx.AsyncClient, request: Request) -> int:
        """One's own things, by one who may."""
        response = await self._send(client, request, "foreign", self._owner.secrets[USERS[0]])
        self._judge(request, response)
        self._learn(request, response)
        return 1

    async def _attack(self, client: httpx.AsyncClient, request: Request) -> int:
        """The pair, in either order."""
        secret = self._credential()
        answers: dict[str, httpx.Response] = {}
        times: dict[str, float] = {}
        for which in self._dice.sample(("foreign", "absent"), 2):
            begun = time.perf_counter()
            answers[which] = await self._send(client, request, which, secret)
            times[which] = time.perf_counter() - begun
            self._judge(request, answers[which])
            self._learn(request, answers[which])
        self._report.positions |= request.positions
        self._report.pairs += 1
        if answers["foreign"].status_code == 404:
            self._report.foreign_s.append(times["foreign"])
            self._report.absent_s.append(times["absent"])
        foreign, absent = (_essence(request, answers[which], which) for which in ("foreign", "absent"))
        if foreign != absent:
            self._report.differences.append(f"{request}\n  foreign: {foreign}\n  absent:  {absent}")
        return 2

    def _credential(self) -> str:
        live = list(self._owner.secrets.values())
        odd = [*self._owner.dead, "", "dr_x", live[0][:-1] + ("0" if live[0][-1] != "0" else "1"), f"{live[0][:16]}{secrets.token_hex(32)}"]
        return self._dice.choice(odd) if self._dice.random() < 0.1 else live[0] if self._dice.random() < 0.6 else self._dice.choice(live)

    async def _send(self, client: httpx.AsyncClient, request: Request, which: str, secret: str) -> httpx.Response:
        options = request.options(which)
        if secret:
            options["headers"]["Authorization"] = f"Bearer {secret}"
        response = await client.request(**options)
        self._report.sent += 1
        self._report.statuses.setdefault(request.operation, Counter())[response.status_code] += 1
        return response

    def _judge(self, request: Request, response: httpx.Response) -> None:
        """No token of anybody else may be in the answer, but what was sent in this very request."""
        told = _told(response)
        sent = {token for planted in request.values() for token in TOKEN.findall(f"{planted.foreign} {planted.absent}")}
        foreign = self._world.foreign_in(told, self._owner, sent)
        if foreign:
            self._report.leaks.append(f"{request} answered {response.status_code} with {foreign}: {told[:2000]}")
        own = self._owner.number
        self._report.own_tokens += any(self._world.owner_of.get(token) == own for token in TOKEN.findall(told))

    def _learn(self, request: Request, response: httpx.Response) -> None:
        """What one's own next requests may be about."""
        if response.status_code >= 300 or "json" not in response.headers.get("content-type", ""):
            return
        body = response.json()
        kind = _CREATED.get(request.operation)
        if kind and not body.get("duplicate"):
            self._owner.scratch[kind].append(body["id"])
            self._world.own(self._owner, body["id"], body.get("secret", ""))
        if body.get("next_cursor"):
            self._owner.cursors.setdefault(_LISTS[request.operation[1]], []).append(body["next_cursor"])


def _told(response: httpx.Response) -> str:
    """Everything an answer says: status line, headers, body, what its cursor holds and what its deltas add up to."""
    text = response.content.decode("utf-8", "replace")
    more = ""
    if "event-stream" in response.headers.get("content-type", ""):
        more = "".join(data["delta"] for name, data, _ in events_of(text) if name == "message")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        packed = base64.urlsafe_b64decode((cursor := json.loads(text)["next_cursor"]) + "=" * (-len(cursor) % 4))
        digits = packed[-16:].hex()
        more += f" {digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return f"{headers}\n{text}\n{more}"


def _essence(request: Request, response: httpx.Response, which: str) -> Any:
    """An answer without what differs each time, and with marks where it repeats what was planted."""
    text = response.content.decode("utf-8", "replace")
    for planted in request.values():
        value = getattr(planted, which)
        text = text.replace(json.dumps(value)[1:-1], "<planted>").replace(value, "<planted>").replace(value.removesuffix(".pdf"), "<planted>")
    headers = {name: response.headers.get(name) for name in _HEADERS if name != "content-length" or response.status_code >= 400}
    kind = response.headers.get("content-type", "")
    if response.status_code >= 400:  # the request's id has its length each time, what was planted too
        headers["content-length"] = str(len(text))
    if "event-stream" in kind:
        events = [(name, data) for name, data, _ in events_of(text)]
        said = "".join(data["delta"] for name, data in events if name == "message")
        return response.status_code, headers, said, [(name, _steady(data)) for name, data in events if name != "message"]
    return response.status_code, headers, _steady(json.loads(text)) if "json" in kind else text


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steady(one) for name, one in value.items() if name not in _VOLATILE}
    return [_steady(one) for one in value] if isinstance(value, list) else value


def places(world: World) -> set[Position]:
    """Every place of the API that takes a value."""
    return Generator(world, world.app.openapi(), world.attackers[0], random.Random(0)).positions()
