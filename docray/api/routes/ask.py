"""Ask: a whole answer, or its events as they come."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from starlette.responses import Response

from docray.api import render
from docray.api.calls import Call, Writing
from docray.api.disconnects import unless_client_leaves
from docray.api.error_responses import error_object, request_id_of
from docray.api.event_stream import EventStream, Feed, event
from docray.api.idempotency import claim_for, held, once_computed, reply, respond
from docray.api.openapi import errors, media
from docray.api.routes.search import scope_of
from docray.api.routing import make_router, needs
from docray.api.schemas.questions import Answer, AskBody
from docray.domain.errors import DocrayError, InvalidField
from docray.domain.idempotency import IdempotencyClaim
from docray.domain.jobs import StoredResponse
from docray.domain.questions import AnswerEvent, Cited, Delta, Finished, Found, Question
from docray.security.scopes import ASK

log = structlog.get_logger(__name__)
router = make_router("questions")

_LAST = "final_answer"


@router.post(
    "/v1/ask",
    response_model=Answer,
    responses={
        **media("text/event-stream", "The answer; with `stream: true` its events, last `final_answer` or `error`", binary=False),
        **errors(400, 409, 413, 415),
    },
)
@needs(ASK)
async def ask(call: Writing, body: AskBody) -> Response:
    """Answers a question from the documents, with citations, or says that they do not say."""
    if body.model is not None and body.model not in call.services.answers.models:
        raise InvalidField("model: No such model is configured. Leave it out for the default.", "model")
    question = Question(
        question=body.question,
        limit=body.limit,
        mode=body.mode,
        scope=scope_of(body.collection_ids, body.document_ids, body.filter),
        model=body.model,
        conversation_id=body.conversation_id,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
    )
    if body.stream:
        return await _streamed(call, question)

    return await once_computed(call, lambda: unless_client_leaves(call.request, _whole(call, question)))


async def _whole(call: Call, question: Question) -> StoredResponse:
    """The answer when it is finished."""
    async with aclosing(_events(call, question)) as events:
        async for found in events:
            if isinstance(found, Finished):
                return reply(200, render.dumps(render.answer(found.answer)))
    raise DocrayError


async def _events(call: Call, question: Question) -> AsyncGenerator[AnswerEvent, None]:
    """The service's events; closing this closes the service's iterator, which stops the model."""
    source = call.services.answers.answer(call.principal, question)
    try:
        async for found in source:
            yield found
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _streamed(call: Call, question: Question) -> Response:
    """Sends events from the first one on; an error before it is a plain HTTP error."""
    if call.idempotency_key is None:
        return EventStream(await Feed(_encoded(call, question)).open())
    claim = await claim_for(call)
    if isinstance(claim, StoredResponse):
        return respond(claim, replayed=True)
    return EventStream(await Feed(_remembered(call, question, claim)).open())


async def _encoded(call: Call, question: Question) -> AsyncGenerator[bytes, None]:
    """Events in their form on the wire. After the first one an error is an event too, the last."""
    begun = False
    try:
        async with aclosing(_events(call, question)) as events:
            async for found in events:
                yield _encode(found)
                begun = True
    except Exception as error:
        if not begun:
            raise
        known = error if isinstance(error, DocrayError) else DocrayError()
        log.warning("an answer broke off", action="answer_broke", error=type(error).__name__, exc_info=error)
        yield event("error", render.dumps(error_object(known, request_id_of(call.request))))


def _encode(found: AnswerEvent) -> bytes:
    match found:
        case Found(results):
            return event("search_results", render.dumps(render.search_results(results)))
        case Delta(text):
            return event("message", render.dumps({"delta": text}))
        case Cited(citation):
            return event("citation", render.dumps(render.citation(citation)))
        case Finished(answer):
            return event(_LAST, render.dumps(render.answer(answer)))


async def _remembered(call: Call, question: Question, claim: IdempotencyClaim) -> AsyncGenerator[bytes, None]:
    """The same under a claim: the whole stream is stored just before its last event is sent; one that breaks off frees the key."""
    store = call.services.idempotency
    sent = bytearray()
    last = f"event: {_LAST}\n".encode()
    async with held(store, claim), aclosing(_encoded(call, question)) as pieces:
        async for piece in pieces:
            sent += piece
            if piece.startswith(last):
                await store.finish(claim, reply(200, bytes(sent), content_type="text/event-stream"))
            yield piece
        await store.release(claim)  # does nothing to one that is finished
