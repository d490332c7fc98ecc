"""API keys: how a secret is made, what of it is stored and what people see of it.

A secret is `dr_<12 digits of the key's id>_<256 random bits>`, all in hex. Only its SHA-256 is stored: with 256 bits of chance in it a
slow hash would protect nothing. Leaves rows to the catalogue, requests to `docray.security.authentication`.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Scope

_BEGINNING = "dr_"
_LENGTHS = range(32, 201)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key with its secret, which is shown once and stored nowhere."""

    key: ApiKey
    secret: str = field(repr=False)

    @property
    def secret_hash(self) -> bytes:
        """What is stored of the secret."""
        return hash_of(self.secret)


def make_key(name: str, scopes: Iterable[Scope], expires_at: datetime | None = None) -> NewKey:
    """A new key; its prefix is the secret's beginning, by which people tell keys apart."""
    key_id = new_id()
    prefix = f"{_BEGINNING}{key_id.hex[-12:]}"
    key = ApiKey(id=key_id, name=name, scopes=frozenset(scopes), prefix=prefix, created_at=datetime.now(UTC), expires_at=expires_at)
    return NewKey(key=key, secret=f"{prefix}_{secrets.token_hex(32)}")


def hash_of(secret: str) -> bytes:
    """SHA-256 of a secret, 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def looks_like_secret(text: str) -> bool:
    """Whether a lookup is worth it; what fails here is no key of ours."""
    return text.startswith(_BEGINNING) and len(text) in _LENGTHS and text.isascii()
