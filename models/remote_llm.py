"""A language model behind HTTP: any OpenAI-compatible URL (OpenAI, Ollama, vLLM), or Anthropic.

Owns the two wire formats, what a call costs, and the translation of what can go wrong. Leaves prompts, retries and what of the text is
shown to `docray.answering`. Neither questions nor answers are logged, and no message of a provider reaches a caller.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from docray.domain.errors import DocrayError, Overloaded, Unavailable
from docray.domain.questions import GeneratedText, Generation, Message, Usage

_CONNECT_TIMEOUT_S = 10.0
_CHARACTERS_PER_TOKEN = 4  # of a provider that does not count: its usage is estimated
_NO_ANSWER = "The language model sent something that is no answer. Ask again."
_THINKING, _THOUGHT = "<think>", "</think>"
_ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What the provider charges, in US dollars for a million tokens."""

    usd_per_million_prompt_tokens: float = 0.0
    usd_per_million_completion_tokens: float = 0.0

    def usage(self, prompt_tokens: int, completion_tokens: int) -> Usage:
        """Tokens with their price."""
        cost = prompt_tokens * self.usd_per_million_prompt_tokens + completion_tokens * self.usd_per_million_completion_tokens
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost_usd=round(cost / 1e6, 9))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one event of a stream says: text, and token counts where it carries any."""

    text: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    complete: bool = False  # nothing is missing from here on


class RemoteLlm(ABC):
    """A Generator over server-sent events. One client with its connections for the process; `close` lets go of them."""

    default_base_url: str

    def __init__(
        self, *, model: str, base_url: str | None = None, api_key: str | None = None, timeout_s: float = 120.0, prices: Prices | None = None
    ) -> None:
        """`timeout_s` bounds each wait for the next piece of text, not the whole answer."""
        self.models: Sequence[str] = (model,)
        self._url = (base_url or self.default_base_url).rstrip("/")
        self._api_key = api_key
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        self._prices = prices or Prices()
        self._client: httpx.AsyncClient | None = None

    async def generate(self, request: Generation) -> AsyncGenerator[GeneratedText, None]:
        """Streams text; the last piece is empty and carries the usage. Closing the iterator ends the request.

        Unavailable (worth another try) when the provider cannot be reached, is overloaded or breaks off; DocrayError (not worth one) when
        it refuses the request.
        """
        prompt_tokens: int | None = None
        completion_tokens: int | None = None
        characters = 0
        thoughts = _Thoughts()
        try:
            async with aclosing(self._parts(request)) as parts:
                async for part in parts:
                    prompt_tokens = part.prompt_tokens if part.prompt_tokens is not None else prompt_tokens
                    completion_tokens = part.completion_tokens if part.completion_tokens is not None else completion_tokens
                    characters += len(part.text)
                    if spoken := thoughts.spoken(part.text):
                        yield GeneratedText(spoken)
            if spoken := thoughts.rest():
                yield GeneratedText(spoken)
        except httpx.TimeoutException as error:
            raise Unavailable("The language model did not answer in time. Ask again.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable("The language model cannot be reached. Ask again later.") from error
        counted = sum(len(message.content) for message in request.messages)
        yield GeneratedText(
            "",
            self._prices.usage(
                _estimated(counted) if prompt_tokens is None else prompt_tokens,
                _estimated(characters) if completion_tokens is None else completion_tokens,
            ),
        )

    async def close(self) -> None:
        """Closes idle connections."""
        client, self._client = self._client, None
        if client:
            await client.aclose()

    async def _parts(self, request: Generation) -> AsyncGenerator[_Part, None]:
        self._client = self._client or httpx.AsyncClient(timeout=self._timeout)
        body, complete = self._body(request), False
        while True:
            async with self._client.stream("POST", self._url + self._path, headers=self._headers(), json=body) as response:
                if response.status_code == 400 and (adapted := self._adapted(body, await response.aread())):
                    body = adapted
                    continue
                if response.status_code >= 400:
                    raise _refusal(response)
                async for event in _events(response):
                    if event.get("error") or event.get("type") == "error":
                        raise Unavailable("The language model broke off. Ask again.")
                    part = self._understood(event)
                    complete = complete or part.complete
                    yield part
            break
        if not complete:
            raise Unavailable("The language model broke off before the end. Ask again.")

    def _understood(self, event: Mapping[str, Any]) -> _Part:
        try:
            return self._part(event)
        except (AttributeError, TypeError, LookupError) as error:
            raise Unavailable(_NO_ANSWER) from error

    def _adapted(self, body: dict[str, Any], refusal: bytes) -> dict[str, Any] | None:
        """The body without what this model does not know, or None where nothing is to be changed."""
        return None

    _path: str

    @abstractmethod
    def _headers(self) -> dict[str, str]: ...

    @abstractmethod
    def _body(self, request: Generation) -> dict[str, Any]: ...

    @abstractmethod
    def _part(self, event: Mapping[str, Any]) -> _Part: ...


class OpenAiLlm(RemoteLlm):
    """`POST {base_url}/chat/completions`; `base_url` ends in `/v1` as the OpenAI SDK wants it."""

    default_base_url = "https://api.openai.com/v1"
    _path = "/chat/completions"

    def __init__(
        self, *, model: str, base_url: str | None = None, api_key: str | None = None, timeout_s: float = 120.0, prices: Prices | None = None
    ) -> None:
        """As `RemoteLlm`."""
        super().__init__(model=model, base_url=base_url, api_key=api_key, timeout_s=timeout_s, prices=prices)
        self._unknown: set[str] = set()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    def _body(self, request: Generation) -> dict[str, Any]:
        body = {
            "model": request.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        return self._without(body, self._unknown)

    def _adapted(self, body: dict[str, Any], refusal: bytes) -> dict[str, Any] | None:
        """OpenAI's reasoning models refuse `max_tokens` (they have `max_completion_tokens`) and any temperature but their own, some servers
        `stream_options`; the refusal names the field, and it is left out from then on."""
        try:
            field = json.loads(refusal)["error"]["param"]
        except (ValueError, TypeError, KeyError):
            return None
        if field not in ("max_tokens", "temperature", "stream_options") or field not in body:
            return None
        self._unknown.add(field)
        return self._without(body, {field})

    def _without(self, body: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
        kept = {name: value for name, value in body.items() if name not in fields}
        return {**kept, "max_completion_tokens": body["max_tokens"]} if "max_tokens" in fields else kept

    def _part(self, event: Mapping[str, Any]) -> _Part:
        if event.get("done"):
            return _Part(complete=True)
        choice = (event.get("choices") or [{}])[0]
        usage = event.get("usage") or {}
        text = (choice.get("delta") or {}).get("content") or ""
        return _Part(text, usage.get("prompt_tokens"), usage.get("completion_tokens"), bool(choice.get("finish_reason")))


class AnthropicLlm(RemoteLlm):
    """`POST {base_url}/v1/messages`."""

    default_base_url = "https://api.anthropic.com"
    _path = "/v1/messages"

    def _headers(self) -> dict[str, str]:
        return {"x-api-key": self._api_key or "", "anthropic-version": _ANTHROPIC_VERSION}

    def _body(self, request: Generation) -> dict[str, Any]:
        return {
            "model": request.model,
            "system": "\n\n".join(message.content for message in request.messages if message.role == "system"),
            "messages": _turns(request.messages),
            "max_tokens": request.max_tokens,
            "temperature": min(request.temperature, 1.0),
            "stream": True,
        }

    def _part(self, event: Mapping[str, Any]) -> _Part:
        kind = event.get("type")
        if kind == "message_start":
            return _Part(prompt_tokens=_anthropic_prompt_tokens(event.get("message", {}).get("usage") or {}))
        if kind == "content_block_delta":
            return _Part(event.get("delta", {}).get("text") or "")
        if kind == "message_delta":
            return _Part(completion_tokens=(event.get("usage") or {}).get("output_tokens"))
        return _Part(complete=kind == "message_stop")


def remote_llm(
    provider: str, *, model: str, base_url: str | None = None, api_key: str | None = None, timeout_s: float = 120.0, prices: Prices | None = None
) -> RemoteLlm:
    """The Generator of a provider: `openai` (and all that speak like it) or `anthropic`."""
    kinds: dict[str, type[RemoteLlm]] = {"openai": OpenAiLlm, "anthropic": AnthropicLlm}
    if provider not in kinds:
        raise ValueError(f"unknown provider {provider!r}, use one of {', '.join(kinds)}")
    return kinds[provider](model=model, base_url=base_url, api_key=api_key, timeout_s=timeout_s, prices=prices)


class _Thoughts:
    """Leaves out the thoughts that some models write before their answer: `<think>…</think>`."""

    def __init__(self) -> None:
        self._held: str | None = ""  # None: what comes now is the answer

    def spoken(self, text: str) -> str:
        """What of the next text belongs to the answer."""
        if self._held is None:
            return text
        self._held += text
        begun = self._held.lstrip()
        if begun.startswith(_THINKING):
            _, mark, spoken = begun.partition(_THOUGHT)
            ended = bool(mark)
        else:
            ended, spoken = not _THINKING.startswith(begun), self._held
        if not ended:
            return ""
        self._held = None
        return spoken

    def rest(self) -> str:
        """What was held back at the end: nothing where the model stopped in its thoughts."""
        held, self._held = self._held or "", None
        return "" if held.lstrip().startswith(_THINKING) else held


async def _events(response: httpx.Response) -> AsyncIterator[Mapping[str, Any]]:
    """The data of server-sent events as objects; OpenAI's `[DONE]` as `{"done": True}`. What is no JSON is a broken stream."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            yield {"done": True}
            continue
        try:
            event = json.loads(data)
        except ValueError as error:
            raise Unavailable(_NO_ANSWER) from error
        if isinstance(event, dict):
            yield event


def _refusal(response: httpx.Response) -> DocrayError:
    """What a status of 400 and above means for the one who asks."""
    if response.status_code == 429:
        return Overloaded("The language model is busy. Ask again later.", None, _retry_after_s(response))
    if response.status_code >= 500 or response.status_code == 408:
        return Unavailable("The language model is not available. Ask again later.", None, _retry_after_s(response))
    return DocrayError(f"The language model refused the request (status {response.status_code}). The operator should check its settings.")


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages if message.role != "system"]


def _anthropic_prompt_tokens(usage: Mapping[str, Any]) -> int | None:
    """All that was read, from caches too."""
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(usage.get(name) or 0 for name in names) if "input_tokens" in usage else None


def _estimated(characters: int) -> int:
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)
