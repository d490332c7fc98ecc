"""Requests made from the OpenAPI document, with another tenant's ids and canaries in every place that takes a value.

A hostile request is a pair: the same request once with what is another tenant's, once with what is nobody's (`Planted`). To somebody from
outside both must look the same.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from docray.domain.ids import new_id
from tests.integration.api_harness import a_pdf, sha256_of
from tests.isolation.world import BREAKING, TOKEN, Doc, Owner, World, canary, cursor_of

Operation = tuple[str, str]  # method and path
Position = tuple[str, str, str]  # operation, where (path, query, header, body), name

KINDS = {"document_id": "document", "document_ids": "document", "collection_id": "collection", "collection_ids": "collection",
         "key_id": "key", "job_id": "job", "reindex_id": "reindex", "conversation_id": "document"}  # fmt: skip
_CURSORS = {"/v1/documents": "d", "/v1/collections": "c", "/v1/api-keys": "k", "/v1/jobs": "b", "/v1/reindexes": "r",
            "/v1/collections/{collection_id}/documents": "m"}  # fmt: skip
_DESTRUCTIVE = {("DELETE", "/v1/documents/{document_id}"), ("DELETE", "/v1/collections/{collection_id}"), ("DELETE", "/v1/api-keys/{key_id}"),
                ("DELETE", "/v1/collections/{collection_id}/documents/{document_id}"), ("PUT", "/v1/documents/{document_id}/content"),
                ("POST", "/v1/reindexes/{reindex_id}/rollback"), ("POST", "/v1/reindexes/{reindex_id}/finish")}  # fmt: skip
_UPLOADS = {("POST", "/v1/documents"), ("PUT", "/v1/documents/{document_id}/content")}
_KEPT = {"name", "title", "description", "metadata", "attributes", "filename"}  # what a write keeps and shows again
_QUESTIONS = (
    "Which valve was opened?", "When was the harbour bridge repaired, {}?", "{}", "the {} of the committee and the library", "{} town pride",
)


@dataclass(frozen=True, slots=True)
class Planted:
    """A place of a request: another tenant's value, and one of the same form that is nobody's."""

    foreign: str
    absent: str


@dataclass(kw_only=True)
class Request:
    """A request whose values may be Planted."""

    operation: Operation
    path: dict[str, Any] = field(default_factory=dict)
    query: list[tuple[str, Any]] = field(default_factory=list)
    headers: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    data: Any = None  # an upload's bytes
    as_form: bool = False
    positions: set[Position] = field(default_factory=set)  # where something of another tenant's stands

    @property
    def hostile(self) -> bool:
        """Whether anything of another tenant's is in it."""
        return bool(self.positions)

    def values(self) -> list[Planted]:
        """What was planted."""
        return list(_planted((self.path, self.query, self.headers, self.body, self.data)))

    def options(self, which: str) -> dict[str, Any]:
        """For httpx: `which` is `foreign` or `absent`."""
        method, pattern = self.operation
        path = re.sub(r"\{(\w+)[^}]*\}", lambda match: str(_filled(self.path[match[1]], which)), pattern)
        made = {"method": method, "url": path}
        query = _filled(self.query, which)
        headers = {name: str(value) for name, value in _filled(self.headers, which).items()}
        if self.data is not None:
            data = _filled(self.data, which)
            data = data.encode() if isinstance(data, str) else data
            if self.as_form:
                names = [value for name, value in query if name == "filename"] or ["x.pdf"]
                fields: dict[str, list[str]] = {}
                for name, value in query:
                    if name != "filename":
                        fields.setdefault(name, []).append(value)
                return {**made, "headers": headers, "files": {"file": (names[0], data, "application/pdf")}, "data": fields}
            return {**made, "params": query, "headers": {**headers, "Content-Type": "application/pdf"}, "content": data}
        return {**made, "params": query, "headers": headers, **({"json": _filled(self.body, which)} if self.body is not None else {})}


def _planted(value: Any) -> Iterator[Planted]:
    if isinstance(value, Planted):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _planted(name)
            yield from _planted(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _planted(one)


def _filled(value: Any, which: str) -> Any:
    if isinstance(value, Planted):
        return getattr(value, which)
    if isinstance(value, Mapping):
        return {_filled(name, which): _filled(one, which) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(one, which) for one in value)
    return value


class Generator:
    """Makes requests of one attacker."""

    def __init__(self, world: World, described: Mapping[str, Any], attacker: Owner, dice: random.Random) -> None:
        self._world = world
        self._schemas: Mapping[str, Any] = described["components"]["schemas"]
        self._described = described
        self._attacker = attacker
        self._dice = dice
        self._must: Position | None = None
        self.operations: list[Operation] = [
            (method.upper(), path) for path, methods in described["paths"].items() for method in methods
        ]

    def positions(self) -> set[Position]:
        """Every place of every operation that something of another tenant's can stand in."""
        found: set[Position] = set()
        for method, path in self.operations:
            name = f"{method} {path}"
            operation = self._described["paths"][path][method.lower()]
            for parameter in operation.get("parameters", ()):
                found.add((name, parameter["in"], parameter["name"]))
            schema = self._json_schema(operation)
            found |= {(name, "body", field_name) for field_name in (schema or {}).get("properties", ())}
            if (method, path) in _UPLOADS:
                found.add((name, "body", "file"))
        return found

    def make(self, hostile: bool, must: Position | None = None) -> Request | None:
        """A request of a random operation, or an attack on a certain place. None where there is nothing left to do it to."""
        operation = self._dice.choice(self.operations) if must is None else (must[0].split(" ")[0], must[0].split(" ")[1])
        self._must = must
        victim = self._dice.choice([owner for owner in self._world.owners if owner is not self._attacker])
        for _ in range(8):
            request = Request(operation=operation)
            if not self._fill(request, victim, hostile):
                return None
            if not hostile or (request.hostile if must is None else must in request.positions):
                break
        return request  # of a route without a place for anything it is a peaceful one

    def _fill(self, request: Request, victim: Owner, hostile: bool) -> bool:
        method, path = request.operation
        described = self._described["paths"][path][method.lower()]
        names = [parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "path"]
        # A pair changes its own things the same way twice, so what can be done once only is not done to one's own there.
        forced = None
        if hostile and request.operation in _DESTRUCTIVE:
            forced = next((name for name in names if self._must_be("path", name)), self._dice.choice([name for name in names if name in KINDS]))
        for parameter in described.get("parameters", ()):
            where, name = parameter["in"], parameter["name"]
            if where == "path":
                plant = hostile and (name == forced or self._must_be(where, name) or (forced is None and self._dice.random() < 0.4))
                value = self._plant(request, "path", name, victim) if plant else self._own_path_value(name, request, hostile)
                if value is None:
                    return False
                request.path[name] = value
            elif self._dice.random() < 0.4 or self._must_be(where, name):
                plant = self._plants(where, name, parameter.get("schema", {}), hostile)
                self._add_parameter(request, where, name, parameter, victim, plant)
        self._add_body(request, described, victim, hostile)
        return True

    def _must_be(self, where: str, name: str) -> bool:
        return self._must is not None and self._must[1:] == (where, name)

    def _plants(self, where: str, name: str, schema: Mapping[str, Any], hostile: bool) -> bool:
        """Whether to plant here: seldom where only a number, a time or one of a few words is understood, since that ends the request."""
        schema = self._resolved(schema)
        plain = schema.get("type") in ("integer", "number", "boolean") or schema.get("format") == "date-time" or "enum" in schema or "const" in schema
        return hostile and (self._must_be(where, name) or self._dice.random() < (0.05 if plain or name in ("model", "scopes", "after") else 0.7))

    def _own_path_value(self, name: str, request: Request, hostile: bool) -> Any:
        if name == "page":
            return self._dice.choice(("1", "2", "2", "9"))
        kind = KINDS[name]
        if request.operation in _DESTRUCTIVE and not hostile:
            scratch = self._attacker.scratch[kind]
            return scratch.pop() if scratch else None
        stable = request.operation[1].endswith("/events") or not self._attacker.scratch[kind] or self._dice.random() < 0.7
        return str(self._dice.choice(self._things(self._attacker, kind)).id) if stable else self._dice.choice(self._attacker.scratch[kind])

    def _things(self, owner: Owner, kind: str) -> list[Any]:
        things = {"document": owner.documents, "collection": owner.collections, "key": owner.keys, "job": owner.jobs, "reindex": owner.reindexes}
        return things[kind]

    # --- what is planted

    def _plant(self, request: Request, where: str, name: str, victim: Owner) -> Planted:
        """Another tenant's value for this place."""
        request.positions.add((" ".join(request.operation), where, name))
        kind = KINDS.get(name)
        if kind:
            return Planted(str(self._dice.choice(self._things(victim, kind)).id), str(new_id()))
        if name == "after":
            letter = _CURSORS[request.operation[1]]
            kinds = {"d": "document", "c": "collection", "k": "key", "b": "job", "r": "reindex", "m": "document"}
            place = self._dice.choice(self._things(victim, kinds[letter]))
            return Planted(cursor_of(letter, place), cursor_of(letter, place, new_id()))
        if name == "Idempotency-Key":
            return self._once(victim, victim.idempotency_key)
        document: Doc = self._dice.choice(victim.documents)
        if name in ("If-None-Match", "If-Match"):
            return Planted(f'"{sha256_of(document.data)}"', f'"{sha256_of(a_pdf())}"')
        if name == "filename":
            return Planted(document.filename, f"{canary()}.pdf")
        words = (document.title, document.metadata, document.text, document.filename.removesuffix(".pdf"), victim.principal.tenant_name)
        token = self._dice.choice(words)
        return Planted(token, canary())

    def _once(self, victim: Owner, value: str) -> Planted:
        """A value that works once only: nobody's in both, after the first time."""
        mark = f"{victim.number}/{value}"
        if mark in self._attacker.spent:
            return Planted(canary(), canary())
        self._attacker.spent.add(mark)
        self._attacker.copied.add(value)
        return Planted(value, canary())

    def _twice(self) -> Planted:
        """Something new for each half of a pair, where the same would be refused the second time."""
        return Planted(canary(), canary())

    def _bait(self, request: Request, name: str, victim: Owner) -> Planted:
        """Something of a victim that the attacker writes into something of its own, and that is its own from then on."""
        request.positions.add((" ".join(request.operation), "body", name))
        if name == "name":
            return self._once(victim, victim.collections[0].name)
        document = victim.documents[0]
        value = document.filename if name == "filename" else self._dice.choice((document.title, document.metadata))
        self._attacker.copied.add(value.removesuffix(".pdf"))
        return Planted(value, canary() + value[38:])

    # --- parameters

    def _add_parameter(self, request: Request, where: str, name: str, parameter: Mapping[str, Any], victim: Owner, plant: bool) -> None:
        writes = request.operation[0] != "GET"
        if where == "header":
            if plant:
                request.headers[name] = self._plant(request, where, name, victim)
            elif name == "Idempotency-Key":
                request.headers[name] = self._twice()
            elif name == "Range":
                request.headers[name] = "bytes=0-7"
            return
        if plant and writes and name in _KEPT:
            value: Any = self._bait(request, name, victim)
            request.positions.add((" ".join(request.operation), "query", name))
            request.query.append((name, value if name != "metadata" else json.dumps({"a": "b"})))
        elif plant:
            value = self._plant(request, where, name, victim)
            request.query.append((f"metadata.{self._dice.choice(('about', 'year'))}" if name == "metadata.KEY" else name, value))
        elif name == "metadata.KEY":
            request.query.append(("metadata.year", "2021"))
        elif name == "metadata":
            request.query.append((name, json.dumps({"a": canary()})))
        else:
            value = self._own_value(name, parameter.get("schema", {}), request)
            request.query += [(name, one) for one in (value if isinstance(value, list) else [value]) if one is not None]

    # --- bodies

    def _json_schema(self, operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        return self._resolved(schema) if schema else None

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for one in schema.get("anyOf", ()):
            if one.get("type") != "null":
                return self._resolved(one)
        return self._schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def _add_body(self, request: Request, described: Mapping[str, Any], victim: Owner, hostile: bool) -> None:
        if request.operation in _UPLOADS:
            request.as_form = self._dice.random() < 0.5
            request.data = Planted(a_pdf(canary()).decode(), a_pdf(canary()).decode())
            if hostile and (self._dice.random() < 0.3 or self._must_be("body", "file")):
                request.positions.add((" ".join(request.operation), "body", "file"))
                bytes_of = victim.documents[0].data.decode()
                planted = self._once(victim, bytes_of)
                fresh = planted.foreign == bytes_of
                request.data = Planted(bytes_of, a_pdf(canary()).decode()) if fresh else request.data
                if fresh:
                    self._attacker.copied |= {*TOKEN.findall(bytes_of), sha256_of(bytes_of.encode())}
            return
        schema = self._json_schema(described)
        if schema is None:
            return
        required = set(schema.get("required", ()))
        request.body = {}
        for name, about in schema["properties"].items():
            if name in required or self._dice.random() < 0.4 or self._must_be("body", name):
                plant = self._plants("body", name, self._resolved(about), hostile)
                request.body[name] = self._body_value(request, name, self._resolved(about), victim, plant)

    def _body_value(self, request: Request, name: str, schema: Mapping[str, Any], victim: Owner, plant: bool) -> Any:
        if not plant:
            return self._own_value(name, schema, request)
        if name in _KEPT:
            bait = self._bait(request, name, victim)
            return {"about": bait, "other": canary()} if name in ("metadata", "attributes") else bait
        if name == "filter":
            return self._filter(request, victim)
        planted = self._plant(request, "body", name, victim)
        if schema.get("type") == "array":
            return self._bulk(request, name, planted, victim) if name in KINDS else [planted]
        if name in ("query", "question"):
            asked = self._dice.choice(_QUESTIONS).replace("{}", "\0")
            asked = f"{asked} {BREAKING} \0" if self._dice.random() < 0.03 else asked if "\0" in asked else f"{asked} \0"
            return Planted(asked.replace("\0", planted.foreign), asked.replace("\0", planted.absent))
        return planted

    def _bulk(self, request: Request, name: str, planted: Planted, victim: Owner) -> list[Any]:
        """One of another's among one's own, nobody's and others'."""
        mixed: list[Any] = [planted]
        for _ in range(self._dice.randrange(4)):
            what = self._dice.randrange(3)
            own = str(self._dice.choice(self._things(self._attacker, KINDS[name])).id)
            mixed.append(own if what == 0 else str(new_id()) if what == 1 else self._plant(request, "body", name, victim))
        self._dice.shuffle(mixed)
        return mixed

    def _filter(self, request: Request, victim: Owner) -> dict[str, Any]:
        request.positions.add((" ".join(request.operation), "body", "filter"))
        document: Doc = self._dice.choice(victim.documents)
        name, value = self._dice.choice((("filename", document.filename), ("title", document.title), ("metadata.about", document.metadata),
                                         ("attributes.about", document.metadata)))  # fmt: skip
        planted = Planted(value, canary() + value[38:])
        condition: Any = self._dice.choice(({name: planted}, {name: {"in": [planted, planted]}}, {name: {"gte": planted}}, {name: {"ne": planted}}))
        if any("gte" in one for one in condition.values() if isinstance(one, dict)):
            condition = {name: {"eq": planted}}  # an order tells of the value itself, and the two differ
        return self._dice.choice((condition, {"or": [condition, {"page": 2}]}, {"not": condition}, {"and": [condition, {"page": {"lte": 9}}]}))

    def _own_value(self, name: str, schema: Mapping[str, Any], request: Request) -> Any:
        """A good value of one's own for a field or parameter."""
        schema = self._resolved(schema)
        if name in KINDS:
            own = [str(self._dice.choice(self._things(self._attacker, KINDS[name])).id)]
            return own if schema.get("type") == "array" else own[0]
        if name == "after":
            found = self._attacker.cursors.get(_CURSORS[request.operation[1]])
            return self._dice.choice(found) if found else None
        if name in ("query", "question"):
            document: Doc = self._dice.choice(self._attacker.documents)
            return self._dice.choice(_QUESTIONS).format(document.text)
        if name == "model":
            return self._dice.choice(("extractive", "obedient"))
        if name in ("highlight", "scale"):
            return {"highlight": "10,10,50,50", "scale": 1}[name]
        if name == "name":
            return self._twice()
        if name in ("filename", "title", "description", "q"):
            return canary()
        if "enum" in schema or "const" in schema:
            return self._dice.choice(schema.get("enum") or [schema["const"]])
        if schema.get("format") == "date-time":
            return "2035-01-01T00:00:00Z" if name in ("expires_at", "created_before") else "2020-01-01T00:00:00Z"
        if schema.get("type") == "array":
            return [self._own_value("", schema["items"], request)]
        kinds = {"integer": self._dice.randint(1, 12), "number": 0.5, "boolean": self._dice.random() < 0.5, "object": {}}
        return kinds.get(str(schema.get("type")), canary())

