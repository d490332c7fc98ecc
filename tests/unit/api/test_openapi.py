"""The generated OpenAPI says what the contract says: its calls, their answers, their objects; and what is written has those shapes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from docray.api import render
from docray.api.app import create_app
from docray.api.error_responses import _STATUS, error_object
from docray.api.schemas import access, common, documents, questions, reindexes
from docray.domain import documents as domain
from docray.domain.catalog import Listing
from docray.domain.errors import DocrayError, InvalidField
from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Principal, Scope, Tenant
from docray.domain.questions import Answer, Citation, DocumentCard, Hit, RefusalReason, SearchResults, Usage
from docray.domain.reindexes import IndexForm, Reindex, ReindexCounts, ReindexState, Switch
from docray.settings import Settings

CALLS = {  # the contract's calls and what they answer when all is well
    "POST /v1/documents": {"200", "202"}, "GET /v1/documents": {"200"}, "GET /v1/documents/{document_id}": {"200", "304"},
    "PATCH /v1/documents/{document_id}": {"200"}, "DELETE /v1/documents/{document_id}": {"202"},
    "GET /v1/documents/{document_id}/content": {"200", "206", "304"}, "PUT /v1/documents/{document_id}/content": {"200", "202"},
    "POST /v1/documents/{document_id}/retry": {"202"}, "GET /v1/documents/{document_id}/events": {"200"},
    "GET /v1/documents/{document_id}/pages/{page}": {"200"}, "GET /v1/documents/{document_id}/pages/{page}.png": {"200", "304"},
    "POST /v1/collections": {"201"}, "GET /v1/collections": {"200"}, "GET /v1/collections/{collection_id}": {"200"},
    "PATCH /v1/collections/{collection_id}": {"200"}, "DELETE /v1/collections/{collection_id}": {"202"},
    "GET /v1/collections/{collection_id}/documents": {"200"}, "PUT /v1/collections/{collection_id}/documents/{document_id}": {"200"},
    "DELETE /v1/collections/{collection_id}/documents/{document_id}": {"204"},
    "POST /v1/search": {"200"}, "POST /v1/ask": {"200"},
    "POST /v1/api-keys": {"201"}, "GET /v1/api-keys": {"200"}, "GET /v1/api-keys/{key_id}": {"200"}, "DELETE /v1/api-keys/{key_id}": {"200"},
    "POST /v1/tenants": {"201"}, "GET /v1/me": {"200"}, "GET /healthz": {"200"}, "GET /readyz": {"200"},
    "GET /v1/status": {"200"},  # an addition of ours, for `docray status`
    "POST /v1/reindexes": {"201"}, "GET /v1/reindexes": {"200"}, "GET /v1/reindexes/{reindex_id}": {"200"},
    "POST /v1/reindexes/{reindex_id}/switch": {"200"}, "POST /v1/reindexes/{reindex_id}/rollback": {"200"},
    "POST /v1/reindexes/{reindex_id}/finish": {"200"}, "POST /v1/reindexes/{reindex_id}/retry": {"200"},
    "GET /v1/jobs": {"200"}, "GET /v1/jobs/{job_id}": {"200"}, "GET /v1/jobs/{job_id}/events": {"200"},
}  # fmt: skip

FIELDS = {  # the contract's objects
    "Document": "id object collection_ids filename title sha256 size_bytes page_count chunk_count generation state progress failure replacement"
    " metadata created_at updated_at ready_at",
    "Progress": "stage pages_done pages_total", "Failure": "code message retryable", "Replacement": "generation state progress failure",
    "DocumentList": "object data has_more next_cursor", "Page": "page width height rotation text words", "PageWord": "text bbox",
    "Collection": "id object name description metadata document_count created_at",
    "CollectionDocument": "object collection_id document_id attributes added_at", "DeletedDocument": "id object deleted",
    "DeletedCollection": "id object deleted", "SearchResults": "object query results degraded timings_ms",
    "Hit": "rank score scores chunk_id document generation text snippet heading_path pages", "HitScores": "dense keyword rerank",
    "HitDocument": "id filename title collection_ids metadata", "HitPage": "page width height bboxes",
    "SearchTimings": "embed retrieve authority total",
    "Answer": "id object answer refused refusal_reason citations search_results model usage degraded timings_ms conversation_id",
    "Citation": "index span quote chunk_id document page width height bboxes", "CitedDocument": "id filename title",
    "AnswerUsage": "prompt_tokens completion_tokens cost_usd", "AnswerTimings": "retrieve first_token total",
    "ApiKey": "id object name scopes prefix created_at expires_at last_used_at revoked_at",
    "ApiKeyWithSecret": "id object name scopes prefix created_at expires_at last_used_at revoked_at secret",
    "Tenant": "id object name created_at api_key", "Me": "principal tenant scopes limits", "MePrincipal": "type id name", "MeTenant": "id name",
    "MeLimits": "max_document_bytes max_pages extract_time_s extract_memory_bytes requests_per_minute",
    "Reindex": "id object state switch collection_id model model_before documents pages created_at switched_at ended_at",
    "ReindexDocuments": "total done built failed waiting", "ReindexPages": "total done",
    "Error": "error", "ErrorDetail": "type code message param request_id retryable", "Ready": "status checks", "Check": "ok latency_ms detail",
}  # fmt: skip

REQUESTS = {  # the contract's bodies
    "SearchBody": "query limit mode collection_ids document_ids filter rerank merge_neighbours",
    "AskBody": "question stream collection_ids document_ids filter limit model mode conversation_id max_tokens temperature",
    "PatchDocument": "title metadata", "NewCollection": "name description metadata", "PatchCollection": "name description metadata",
    "PutMembership": "attributes", "NewApiKey": "name scopes expires_at", "NewTenant": "name",
    "NewReindex": "switch collection_id", "SwitchReindex": "accept_failures",
}  # fmt: skip


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    async def nothing() -> Any:
        raise AssertionError("describing needs no services")

    return create_app(nothing, settings=Settings()).openapi()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_it_lists_the_calls_of_the_contract_with_their_answers(described: dict[str, Any]) -> None:
    assert {name: {s for s in operation["responses"] if s < "400"} for name, operation in operations(described)} == CALLS


def test_every_call_but_the_probes_asks_for_a_bearer_token(described: dict[str, Any]) -> None:
    open_to_all = {name for name, operation in operations(described) if operation.get("security") != [{"bearer": []}]}
    assert open_to_all == {"GET /healthz", "GET /readyz"}
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_every_error_has_the_one_shape_and_every_call_names_those_it_may_answer(described: dict[str, Any]) -> None:
    for name, operation in operations(described):
        failing = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        for status, answer in failing.items():
            shape = answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert shape == ("NotReady" if (name, status) == ("GET /readyz", "503") else "Error"), (name, status)
        wanted = {"429", "500", "503"} | ({"401", "403", "422"} if "security" in operation else set()) | ({"404"} if "{" in name else set())
        if "requestBody" in operation:
            wanted |= {"400", "409", "413", "415"}
        assert wanted <= set(failing), name


def test_every_write_takes_an_idempotency_key_and_only_writes_do(described: dict[str, Any]) -> None:
    for name, operation in operations(described):
        parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in parameters) is (not name.startswith("GET ")), name


def test_operation_ids_are_unique_and_names_are_described(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(described)]
    assert len(set(ids)) == len(ids) == len(CALLS)
    assert all(operation["description"] and operation["tags"] for _, operation in operations(described))


def test_media_types_are_named(described: dict[str, Any]) -> None:
    paths = described["paths"]
    one = paths["/v1/documents/{document_id}/content"]
    for operation in (paths["/v1/documents"]["post"], one["put"]):
        assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/pdf"}
    assert set(one["get"]["responses"]["200"]["content"]) == set(one["get"]["responses"]["206"]["content"]) == {"application/pdf"}
    assert set(paths["/v1/ask"]["post"]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert set(paths["/v1/documents/{document_id}/events"]["get"]["responses"]["200"]["content"]) == {"text/event-stream"}
    assert set(paths["/v1/documents/{document_id}/pages/{page}.png"]["get"]["responses"]["200"]["content"]) == {"image/png"}


@pytest.mark.parametrize("name", FIELDS)
def test_objects_have_the_fields_of_the_contract(described: dict[str, Any], name: str) -> None:
    schema = described["components"]["schemas"][name]
    assert set(schema["properties"]) == set(schema["required"]) == set(FIELDS[name].split())


@pytest.mark.parametrize("name", REQUESTS)
def test_bodies_have_the_fields_of_the_contract_and_no_others(described: dict[str, Any], name: str) -> None:
    schema = described["components"]["schemas"][name]
    assert set(schema["properties"]) == set(REQUESTS[name].split())
    assert schema["additionalProperties"] is False


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(references(described)) <= known


def test_codes_and_types_are_those_of_the_errors() -> None:
    def kinds(root: type[DocrayError]) -> Iterator[type[DocrayError]]:
        yield root
        for child in root.__subclasses__():
            yield from kinds(child)

    named = common.ErrorDetail.model_fields
    assert {kind.type for kind in kinds(DocrayError)} == set(named["type"].annotation.__args__)  # type: ignore[union-attr]
    abstract = {"conflict"}
    assert {kind.code for kind in kinds(DocrayError)} - abstract == set(named["code"].annotation.__args__)  # type: ignore[union-attr]
    assert set(_STATUS.values()) == {400, 401, 403, 404, 405, 409, 412, 413, 415, 416, 422, 429, 500, 503}


# --- what is written has the shapes that are described -------------------------------------------------------------------

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
CARD = DocumentCard(id=new_id(), filename="a.pdf", title="t", collection_ids=(new_id(),), metadata={"a": [None]}, created_at=NOW)
PLACES = (domain.PageBoxes(1, 595.0, 842.0, ((1.0, 2.0, 3.0, 4.0),)),)
HIT = Hit(
    rank=1, score=0.5, dense=None, keyword=1.0, rerank=None, chunk_id=new_id(), document=CARD, generation=1, text="t", snippet="t",
    heading_path=("h",), pages=PLACES, spans=(),
)  # fmt: skip
FOUND = SearchResults(query="q", hits=(HIT,), degraded=("dense",), timings_ms={"embed": 1.0, "retrieve": 1.0, "authority": 1.0, "total": 3.0})
CITED = Citation(
    index=1, span=(0, 1), quote="q", chunk_id=new_id(), document=CARD, page=1, width=1.0, height=1.0, boxes=((1.0, 2.0, 3.0, 4.0),)
)
FAILURE = domain.Failure.of(domain.FailureCode.DAMAGED)
DOCUMENT = domain.Document(
    id=new_id(), collection_ids=(new_id(),), filename="a.pdf", title=None, sha256="0" * 64, size_bytes=1, page_count=None, chunk_count=None,
    generation=1, state=domain.State.FAILED, progress=domain.Progress(), failure=FAILURE,
    replacement=domain.Replacement(generation=2, state=domain.State.QUEUED, progress=domain.Progress(domain.Stage.EXTRACT, 1, 2)),
    metadata={}, created_at=NOW, updated_at=NOW, ready_at=None,
)  # fmt: skip
KEY = ApiKey(id=new_id(), name="k", scopes=frozenset(Scope), prefix="dr_0", created_at=NOW)
WHO = Principal(kind="api_key", id=new_id(), name=None, tenant_id=new_id(), tenant_name="t", scopes=frozenset(Scope))
ANSWER = Answer(
    id=new_id(), answer="a", refusal_reason=RefusalReason.NO_DOCUMENTS, citations=(CITED,), search_results=FOUND, model="m", usage=Usage(),
    degraded=(), timings_ms={"retrieve": 1.0, "first_token": None, "total": 1.0},
)  # fmt: skip
PAGE = domain.Page(number=1, width=1.0, height=1.0, rotation=90, words=(domain.Word("w", (0.0, 0.0, 1.0, 1.0), 0),))
COLLECTION = domain.Collection(id=new_id(), name="c", description=None, metadata={}, document_count=0, created_at=NOW)
REINDEX = Reindex(
    id=new_id(), state=ReindexState.BUILDING, switch=Switch.DOCUMENT, collection_id=None, form=IndexForm("new", "1/200/new"), model_before="old",
    counts=ReindexCounts(total=3, done=1, built=1, failed=0, waiting=1, pages_total=9, pages_done=4), created_at=NOW, switched_at=None, ended_at=None,
)  # fmt: skip
WRITTEN: list[tuple[type[BaseModel], Any]] = [
    (documents.Document, render.document(DOCUMENT)),
    (documents.DuplicateDocument, {**render.document(DOCUMENT), "duplicate": True}),
    (documents.Page, render.page(PAGE)),
    (documents.Collection, render.collection(COLLECTION)),
    (documents.CollectionDocument, render.membership(domain.Membership(collection_id=new_id(), document_id=new_id(), added_at=NOW))),
    (common.DeletedDocument, render.deleted(new_id(), "document")),
    (questions.SearchResults, render.search_results(FOUND)),
    (questions.Citation, render.citation(CITED)),
    (questions.Answer, render.answer(ANSWER)),
    (access.ApiKeyWithSecret, render.api_key(KEY, "dr_secret")),
    (access.ApiKey, render.api_key(KEY)),
    (access.Tenant, render.tenant(Tenant(id=new_id(), name="t", created_at=NOW), KEY, "dr_secret")),
    (access.Me, render.me(WHO, Settings())),
    (reindexes.Reindex, render.reindex(REINDEX)),
    (reindexes.Reindex, render.reindex(replace(REINDEX, counts=None, state=ReindexState.FINISHED, ended_at=NOW))),
    (common.Error, error_object(InvalidField("This is wrong.", "filter.page"), "r")),
]


def extras(value: Any) -> list[str]:
    """Fields that were written and are not described."""
    if isinstance(value, BaseModel):
        inner = [found for name in type(value).model_fields for found in extras(getattr(value, name))]
        return list(value.model_extra or {}) + inner
    return [found for item in value for found in extras(item)] if isinstance(value, list) else []


@pytest.mark.parametrize(("model", "written"), WRITTEN, ids=lambda value: value.__name__ if isinstance(value, type) else "")
def test_what_is_written_is_what_is_described(model: type[BaseModel], written: Any) -> None:
    read = model.model_validate_json(render.dumps(written))
    assert extras(read) == []


def test_lists_are_written_as_described() -> None:
    for cursor in ("next", None):
        read = documents.DocumentList.model_validate_json(render.listing(Listing((DOCUMENT,), cursor), render.document))
        assert (read.has_more, read.next_cursor, extras(read)) == (cursor is not None, cursor, [])


def test_times_have_microseconds_and_a_z() -> None:
    assert render.time(NOW) == "2026-01-31T12:00:00.000000Z"
    assert render.time(NOW.replace(year=99, microsecond=5)) == "0099-01-31T12:00:00.000005Z"
    assert render.time(None) is None
