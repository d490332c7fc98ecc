"""Who waits for a connection of the pool gets one in turn: whoever comes at the moment that one is free does not go ahead."""

import asyncio

from docray.stores.postgres import Database


async def test_callers_are_served_in_the_order_they_came(test_database) -> None:  # type: ignore[no-untyped-def]
    database = Database(test_database.dsn("docray_app"), pool_size=1)
    await database.open()
    served: list[int] = []

    async def caller(number: int) -> None:
        async with database.system_tx():
            served.append(number)

    callers = []
    for number in range(400):  # one in each turn of the event loop, so that some come just when a connection is given back
        callers.append(asyncio.create_task(caller(number)))
        await asyncio.sleep(0)
    await asyncio.gather(*callers)
    await database.close()
    assert served == list(range(400))
