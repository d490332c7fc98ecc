"""One contract for language models behind HTTP, held by each wire format against a real server on a free port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from llm_server import ANSWER, LlmServer, running

from docray.domain.errors import DocrayError, Overloaded, Unavailable
from docray.domain.questions import GeneratedText, Generation, Message, Usage
from models.remote_llm import Prices, RemoteLlm, remote_llm

REQUEST = Generation(
    messages=(Message("system", "Answer."), Message("user", "When did the harbour open?")), model="some-model", max_tokens=77, temperature=0.5
)
PRICES = Prices(usd_per_million_prompt_tokens=3.0, usd_per_million_completion_tokens=15.0)


@dataclass
class Provider:
    """A wire format with its server."""

    name: str
    server: LlmServer
    llm: RemoteLlm

    async def pieces(self) -> list[GeneratedText]:
        """All that one call gives."""
        return [piece async for piece in self.llm.generate(REQUEST)]

    async def text(self) -> str:
        """The text of one call."""
        return "".join(piece.text for piece in await self.pieces())

    @property
    def body(self) -> dict[str, Any]:
        """The body of the last request."""
        return self.server.requests[-1][2]


@asynccontextmanager
async def provided(name: str, server: LlmServer, timeout_s: float = 20.0) -> AsyncIterator[Provider]:
    """A provider that speaks like this."""
    async with running(server) as url:
        base = f"{url}/v1" if name == "openai" else url
        llm = remote_llm(name, model="some-model", base_url=base, api_key="sk-secret", timeout_s=timeout_s, prices=PRICES)
        try:
            yield Provider(name, server, llm)
        finally:
            await llm.close()


@pytest.fixture(params=["openai", "anthropic"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Provider]:
    async with provided(request.param, LlmServer()) as found:
        yield found


async def test_text_comes_in_pieces_and_the_usage_last(provider: Provider) -> None:
    pieces = await provider.pieces()
    assert tuple(piece.text for piece in pieces) == (*ANSWER, "")
    assert [piece.usage for piece in pieces[:-1]] == [None, None, None]
    assert pieces[-1].usage == Usage(prompt_tokens=1000, completion_tokens=200, cost_usd=0.006)
    assert provider.llm.models == ("some-model",)


async def test_the_request_says_what_is_wanted(provider: Provider) -> None:
    await provider.text()
    path, headers, body = provider.server.requests[0]
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("some-model", 77, 0.5, True)
    if provider.name == "openai":
        assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-secret")
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
    else:
        assert (path, headers["x-api-key"]) == ("/v1/messages", "sk-secret")
        assert headers["anthropic-version"]
        assert (body["system"], body["messages"]) == ("Answer.", [{"role": "user", "content": "When did the harbour open?"}])


async def test_a_provider_that_counts_nothing_is_estimated(provider: Provider) -> None:
    provider.server.reports_usage = False
    usage = (await provider.pieces())[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 8)
    assert usage.cost_usd == pytest.approx((9 * 3 + 8 * 15) / 1e6)


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (429, Overloaded, True),
        (500, Unavailable, True),
        (503, Unavailable, True),
        (529, Unavailable, True),
        (401, DocrayError, False),
        (400, DocrayError, False),
    ],
)
async def test_a_refusal_says_whether_another_try_helps(provider: Provider, status: int, error: type[DocrayError], retryable: bool) -> None:
    provider.server.refusals = [(status, {"error": {"message": "secret details of the provider"}}, {"Retry-After": "7"})]
    with pytest.raises(error) as raised:
        await provider.text()
    assert raised.value.retryable is retryable
    assert "secret" not in str(raised.value)
    assert raised.value.retry_after_s == (7.0 if retryable else None)


async def test_a_stream_that_ends_early_is_no_answer(provider: Provider) -> None:
    provider.server.finishes = False
    with pytest.raises(Unavailable):
        await provider.text()


async def test_an_error_in_the_stream_is_not_told_on(provider: Provider) -> None:
    provider.server.error_after = 1
    with pytest.raises(Unavailable) as raised:
        await provider.text()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "garbage", [b"this is no JSON", b'{"choices": 5, "type": "content_block_delta", "delta": 5}', b'{"error": {"message": "x"}}']
)
async def test_what_is_no_answer_is_taken_for_none(provider: Provider, garbage: bytes) -> None:
    provider.server.garbage = garbage
    with pytest.raises(Unavailable):
        await provider.text()


async def test_a_provider_that_is_not_there_is_unavailable(provider: Provider) -> None:
    llm = remote_llm(provider.name, model="m", base_url="http://127.0.0.1:9", timeout_s=5)
    with pytest.raises(Unavailable):
        await anext(llm.generate(REQUEST))
    await llm.close()


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_provider_that_falls_silent_is_unavailable(name: str) -> None:
    async with provided(name, LlmServer(stalls_after=1), timeout_s=0.2) as provider:
        with pytest.raises(Unavailable):
            await provider.text()


async def test_closing_the_iterator_ends_the_request(provider: Provider) -> None:
    provider.server.stalls_after = 1
    stream = provider.llm.generate(REQUEST)
    assert (await anext(stream)).text == ANSWER[0]
    await stream.aclose()
    async with asyncio.timeout(10):
        await provider.server.left.wait()


async def test_thoughts_are_left_out(provider: Provider) -> None:
    provider.server.pieces = ("\n<th", "ink>The user wants", " a date.</thi", "nk>It opened", " in 1901.")
    assert await provider.text() == "It opened in 1901."
    provider.server.pieces = ("<this is no thought>",)
    assert await provider.text() == "<this is no thought>"
    provider.server.pieces = ("<think>and no end",)
    assert await provider.text() == ""


async def test_a_field_that_an_openai_model_does_not_know_is_left_out_from_then_on() -> None:
    refusals = [(400, {"error": {"param": name, "message": "unsupported"}}, {}) for name in ("max_tokens", "temperature")]
    async with provided("openai", LlmServer(refusals=list(refusals))) as provider:
        assert await provider.text() == "".join(ANSWER)
        assert await provider.text() == "".join(ANSWER)
        assert len(provider.server.requests) == 4
        assert provider.body["max_completion_tokens"] == 77
        assert {"max_tokens", "temperature"}.isdisjoint(provider.body)


async def test_an_openai_server_need_not_say_done() -> None:
    async with provided("openai", LlmServer(says_done=False)) as provider:
        assert await provider.text() == "".join(ANSWER)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown provider"):
        remote_llm("nobody", model="m")
