"""What may leave docray in an answer: plain sentences. No links, no images, no HTML, no brackets but our own citation markers.

Owns the cleaning of text that a model wrote (hostile markup until it went through here) and the test whether a quote is free of it.
Works on whole segments: `docray.answering.claims` cuts the stream only where white space stands, so that nothing forbidden can hide
between two of them, and puts the markers in afterwards.
"""

import re

from docray.answering.characters import visible

_TAG = re.compile(r"<[/!?]?[A-Za-z][^<>]*>|<!--.*?(?:-->|$)|<[!?][^<>]*>", re.DOTALL)
_TAG_START = re.compile(r"<(?=[A-Za-z/!?])")
_URL = re.compile(
    r"""(?:
        [A-Za-z][A-Za-z0-9+.\-]+:[/\\]+\S*             # https://…, file:/…, also with backslashes, but no drive letter
      | :[/\\]{2}\S*
      | (?:data|javascript|vbscript|mailto|tel|sms|file|blob|xmpp|ftp|https?):\S+
      | [/\\]{2}[\w\-]+(?:\.[\w\-]+)+\S*                 # //host.example/…
      | www\.\S+
      | (?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,}(?::\d+)?[/?\#]\S*  # host.example/path
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_IMAGE = re.compile(r"!(?=[\[(])")
_LINK = re.compile(r"!\[|\][(:]")
_MARKER = re.compile(r"\[\d+\]")
_MARKDOWN = re.compile(r"!\[|\]\s*[(\[:]")
_BRACKETS = str.maketrans({"[": "(", "]": ")", "［": "(", "］": ")", "【": "(", "】": ")"})


def clean(text: str) -> str:
    """The text with everything forbidden taken out, brackets turned into round ones. `clean(clean(x)) == clean(x)`."""
    text = visible(text).translate(_BRACKETS)
    while True:
        cleaned = _IMAGE.sub("", _URL.sub("", _TAG_START.sub("< ", _TAG.sub("", text))))
        if cleaned == text:
            return cleaned
        text = cleaned


def is_clean(text: str) -> bool:
    """Whether a quote holds no link, image or HTML. Brackets may stand in it: the document wrote them, and the span tells."""
    seen = visible(text)
    return not any(pattern.search(seen) for pattern in (_TAG, _TAG_START, _URL, _MARKDOWN))


def holds(answer: str) -> bool:
    """Whether text with its markers is what the gate promises. The last look before it leaves: clean parts may meet badly."""
    bare = _MARKER.sub("", answer)
    linked = any(pattern.search(answer) for pattern in (_TAG, _TAG_START, _URL, _LINK))
    return not linked and "[" not in bare and "]" not in bare and visible(answer) == answer
