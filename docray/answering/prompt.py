"""The messages a language model gets: instructions, numbered passages, the question.

Owns filling the templates in `prompts/`. Passages and question are put in once, in one pass: what stands in them is never read as a
template, and `docray.answering.context.harmless` keeps it inside its frame.
"""

import functools
from collections.abc import Sequence
from importlib import resources
from string import Template

from docray.answering.characters import visible
from docray.answering.context import Numbered, harmless
from docray.domain.questions import Message

_QUOTED = str.maketrans('"<>', "'‹›")
REFUSAL_TOKEN = "NOT_IN_DOCUMENTS"
"""What the model is told to write where the passages do not say."""


def messages(question: str, passages: Sequence[Numbered]) -> tuple[Message, ...]:
    """System and user message for one question."""
    framed = "\n".join(_framed(passage) for passage in passages)
    user = _template("question.md").substitute(passages=framed, question=harmless(question))
    return (Message("system", _template("system.md").substitute(refusal=REFUSAL_TOKEN).strip()), Message("user", user.strip()))


def _framed(passage: Numbered) -> str:
    hit = passage.evidence.hit
    name = _attribute(hit.document.title or hit.document.filename)
    pages = ", ".join(str(span.page) for span in passage.evidence.spans)
    return f'<passage number="{passage.number}" document="{name}" pages="{pages}">\n{passage.text}\n</passage>'


def _attribute(text: str) -> str:
    """A document's name on one line, without what would end its quotation marks."""
    return " ".join(visible(text).translate(_QUOTED).split())[:200]


@functools.cache
def _template(name: str) -> Template:
    return Template(resources.files("docray.answering").joinpath("prompts", name).read_text(encoding="utf-8"))
