"""`/docs`: the OpenAPI document as one page of plain HTML. No script and nothing from elsewhere, so it works without the internet and
under a strict content policy; `/openapi.json` is for programs that draw it in other ways."""

from collections.abc import Iterator
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
summary { cursor: pointer; padding: .3rem 0 } code { font: 14px ui-monospace, monospace } .method { font-weight: 700; display: inline-block;
width: 4.5rem } table { border-collapse: collapse; margin: .5rem 0 1rem } td { border-top: 1px solid #ddd; padding: .2rem .8rem .2rem 0;
vertical-align: top } details { margin-left: .5rem } details > *:not(summary) { margin-left: 1rem }
@media (prefers-color-scheme: dark) { body { color: #e8e8e8; background: #161616 } td { border-color: #444 } a { color: #8ab4f8 } }
"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


async def docs(request: Request) -> Response:
    """The page."""
    return HTMLResponse("".join(_page(request.app.openapi())), headers=_HEADERS)


def _page(described: dict[str, Any]) -> Iterator[str]:
    info = described["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(info["title"])}'
    yield f"</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info['summary'])}</p>"
    yield "<p>Send <code>Authorization: Bearer &lt;api key&gt;</code>. For programs: <a href='openapi.json'>openapi.json</a>.</p>"
    calls = [(path, method, call) for path, methods in described["paths"].items() for method, call in methods.items()]
    for tag in dict.fromkeys(call["tags"][0] for _, _, call in calls):
        yield f"<h2>{escape(tag)}</h2>"
        for path, method, call in calls:
            if call["tags"][0] == tag:
                yield from _call(path, method, call)
    yield "<h2>objects</h2>"
    for name, schema in sorted(described["components"]["schemas"].items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> {escape(schema.get("description", ""))}</summary>'
        yield from _table((field, _kind(kind) + _note(kind)) for field, kind in schema.get("properties", {}).items())
        yield "</details>"


def _call(path: str, method: str, call: dict[str, Any]) -> Iterator[str]:
    yield f'<details><summary><code><span class="method">{method.upper()}</span>{escape(path)}</code></summary>'
    yield f"<p>{escape(call['description'])}</p>"
    parameters = call.get("parameters", [])
    yield from _table((f"{each['name']} ({each['in']})", _kind(_schema_of(each)) + escape(f" {each.get('description', '')}")) for each in parameters)
    body = call.get("requestBody", {}).get("content", {})
    yield from _table((f"body, {media}", _kind(content["schema"])) for media, content in body.items())
    yield from _table((status, escape(answer["description"]) + _media(answer)) for status, answer in sorted(call["responses"].items()))
    yield "</details>"


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    found = [f"<tr><td><code>{escape(name)}</code><td>{text}" for name, text in rows]
    if found:
        yield "<table>" + "".join(found) + "</table>"


def _schema_of(parameter: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = parameter.get("schema") or parameter["content"]["application/json"]["schema"]
    return schema


def _media(answer: dict[str, Any]) -> str:
    return "".join(f": {_kind(content['schema'])} <small>{escape(media)}</small>" for media, content in answer.get("content", {}).items())


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " ".join(f"<code>{escape(str(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and "properties" in schema:
        return "{" + ", ".join(f"{escape(name)}: {_kind(one)}" for name, one in schema["properties"].items()) + "}"
    return escape(str(schema.get("format") or schema.get("type") or "anything"))


def _note(schema: dict[str, Any]) -> str:
    return escape(f" {schema['description']}") if "description" in schema else ""
