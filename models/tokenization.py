"""Text → token ids as a checkpoint's own tokenizer.json says. Owns truncation and counting; prefixes are the engines'."""

from collections.abc import Sequence

from tokenizers import Tokenizer


class TextTokenizer:
    """A fast tokenizer, safe for several threads: both instances are set up once and never changed again.

    Args:
        definition: The text of tokenizer.json. What it says about truncation and padding is not heeded.
        max_sequence_tokens: Where `encode` cuts, special tokens included.
        lower_case: Whether the checkpoint asks for lower-cased text before its tokenizer.
    """

    def __init__(self, definition: str, max_sequence_tokens: int, *, lower_case: bool = False) -> None:
        self._max_sequence_tokens = max_sequence_tokens
        self._lower_case = lower_case
        self._plain = _untouched(definition)
        self._truncating = _untouched(definition)
        self._truncating.enable_truncation(max_sequence_tokens)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with special tokens, cut at the limit."""
        return [encoding.ids for encoding in self._truncating.encode_batch_fast(self._prepared(texts))]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens, not cut."""
        encodings = self._plain.encode_batch_fast(self._prepared(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def passage_limit(self, prefix: str) -> int:
        """Tokens a text may have, as `count` counts, so that it fits whole after the prefix and between the special tokens."""
        return self._max_sequence_tokens - int(self._plain.num_special_tokens_to_add(False)) - self.count([prefix])[0]

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        cleaned = [encodable(text) for text in texts]
        return [text.lower() for text in cleaned] if self._lower_case else cleaned


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can carry and no tokenizer takes, replaced by question marks."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def _untouched(definition: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
