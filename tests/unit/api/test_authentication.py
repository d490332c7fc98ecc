"""From a header to a principal: every kind of wrong is the same wrong, a burst asks once, a revoked key is believed for 2 s at most."""

import asyncio
from dataclasses import dataclass, field

import pytest

from docray.domain.errors import InvalidCredentials, MissingCredentials, RateLimited, Unavailable
from docray.domain.ids import new_id
from docray.domain.principals import Principal, Scope
from docray.security.api_keys import hash_of, make_key
from docray.security.authentication import Authenticator
from docray.security.rates import RequestRates


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class KeysInMemory:
    """`docray.domain.access.Credentials` over a dict; counts the questions, waits while `gate` is closed."""

    principals: dict[bytes, Principal] = field(default_factory=dict)
    asked: int = 0
    away: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def add(self) -> tuple[str, Principal]:
        made = make_key("a key", [Scope.SEARCH])
        principal = Principal(
            kind="api_key", id=made.key.id, name="a key", tenant_id=new_id(), tenant_name="t", scopes=frozenset({Scope.SEARCH})
        )
        self.principals[made.secret_hash] = principal
        return made.secret, principal

    async def find(self, secret_hash: bytes) -> Principal | None:
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable
        return self.principals.get(secret_hash)


async def test_a_bearer_token_gives_its_principal() -> None:
    keys = KeysInMemory()
    secret, principal = keys.add()
    assert await Authenticator(keys).authenticate(f"Bearer {secret}") == principal
    assert await Authenticator(keys).authenticate(f"bearer  {secret} ") == principal


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "token"])
async def test_without_a_bearer_token_credentials_are_missing(header: str | None) -> None:
    with pytest.raises(MissingCredentials):
        await Authenticator(KeysInMemory()).authenticate(header)


@pytest.mark.parametrize("token", ["wrong", "dr_wrong", "é", "x" * 8000, "dr_" + "x" * 8000, "dr_" + "0" * 60, "dr_" + "é" * 60])
async def test_every_wrong_token_is_refused_in_the_same_words(token: str) -> None:
    with pytest.raises(InvalidCredentials) as caught:
        await Authenticator(KeysInMemory()).authenticate(f"Bearer {token}")
    assert caught.value.message == InvalidCredentials().message


async def test_a_burst_asks_once_and_a_revoked_key_is_forgotten_after_two_seconds() -> None:
    keys, clock = KeysInMemory(), Clock()
    secret, principal = keys.add()
    doorkeeper = Authenticator(keys, clock=clock)
    keys.gate.clear()
    burst = [asyncio.create_task(doorkeeper.authenticate(f"Bearer {secret}")) for _ in range(20)]
    await asyncio.sleep(0)
    keys.gate.set()
    assert await asyncio.gather(*burst) == [principal] * 20
    assert keys.asked == 1
    keys.principals.clear()
    clock.now += 1.9
    assert await doorkeeper.authenticate(f"Bearer {secret}") == principal
    clock.now += 0.2
    with pytest.raises(InvalidCredentials):
        await doorkeeper.authenticate(f"Bearer {secret}")


async def test_a_key_revoked_here_is_forgotten_at_once() -> None:
    keys = KeysInMemory()
    secret, principal = keys.add()
    doorkeeper = Authenticator(keys)
    await doorkeeper.authenticate(f"Bearer {secret}")
    keys.principals.clear()
    doorkeeper.forget(principal.id)
    with pytest.raises(InvalidCredentials):
        await doorkeeper.authenticate(f"Bearer {secret}")


async def test_wrong_keys_are_remembered_for_a_second_and_only_so_many() -> None:
    keys, clock = KeysInMemory(), Clock()
    doorkeeper = Authenticator(keys, clock=clock, capacity=3)
    wrong = [make_key("wrong", []).secret for _ in range(4)]
    for secret in [*wrong, *wrong[1:]]:
        with pytest.raises(InvalidCredentials):
            await doorkeeper.authenticate(f"Bearer {secret}")
    assert keys.asked == 4
    clock.now += 1.1
    with pytest.raises(InvalidCredentials):
        await doorkeeper.authenticate(f"Bearer {wrong[3]}")
    assert keys.asked == 5


async def test_a_caller_that_leaves_and_a_database_that_is_away_spoil_nothing_for_the_next() -> None:
    keys = KeysInMemory()
    secret, principal = keys.add()
    doorkeeper = Authenticator(keys)
    keys.gate.clear()
    leaving = asyncio.create_task(doorkeeper.authenticate(f"Bearer {secret}"))
    staying = asyncio.create_task(doorkeeper.authenticate(f"Bearer {secret}"))
    await asyncio.sleep(0)
    leaving.cancel()
    keys.gate.set()
    assert await staying == principal
    keys.away = True
    doorkeeper.forget(principal.id)
    with pytest.raises(Unavailable):
        await doorkeeper.authenticate(f"Bearer {secret}")
    keys.away = False
    assert await doorkeeper.authenticate(f"Bearer {secret}") == principal


def test_a_secret_has_256_random_bits_and_begins_with_its_prefix() -> None:
    one, two = make_key("k", [Scope.ASK]), make_key("k", [Scope.ASK])
    assert one.secret.startswith(one.key.prefix)
    assert one.secret not in one.key.prefix
    assert len(bytes.fromhex(one.secret.rsplit("_", 1)[1])) == 32
    assert len({one.secret, two.secret, one.key.prefix, two.key.prefix}) == 4
    assert one.secret not in repr(one)
    assert one.secret_hash == hash_of(one.secret)


def test_a_minutes_worth_of_requests_fits_then_one_at_a_time() -> None:
    clock = Clock()
    rates, who = RequestRates(60, clock=clock), new_id()
    for _ in range(60):
        rates.take(who)
    with pytest.raises(RateLimited) as caught:
        rates.take(who)
    assert caught.value.retry_after_s == pytest.approx(1.0)
    rates.take(new_id())
    clock.now += 1.0
    rates.take(who)
    with pytest.raises(RateLimited):
        rates.take(who)


def test_no_limit_limits_nothing() -> None:
    rates, who = RequestRates(None), new_id()
    for _ in range(1000):
        rates.take(who)
