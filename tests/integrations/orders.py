"""Flows of Prefect as somebody might have them: nothing in their tasks knows of Flow Platform."""

import asyncio
import contextlib
import time

from flowplatform_client.integrations.prefect import report
from prefect import flow, task

Order = dict[str, int]

tries = 0


@task
def fetch(count: int) -> list[Order]:
    return [{"order": order} for order in range(count)]


@task(retries=2)
def price(orders: list[Order]) -> Order:
    global tries
    tries += 1
    if tries < 3:
        raise ConnectionError(f"no prices at the {tries}. time")
    return {str(order["order"]): 10 for order in orders}


@task
def pack(order: Order) -> Order:
    if order["order"] == 3:
        raise ValueError("order 3 is empty")
    time.sleep(0.1)
    return order


@task
def send(parcels: list[Order], prices: Order) -> str:
    return f"{len(parcels)} parcels for {sum(prices.values())}"


@report
@flow
def orders(count: int) -> str:
    fetched = fetch(count)
    return send(pack.map(fetched), price.submit(fetched))


@report
@flow
async def orders_without_prices(count: int) -> str:
    return packed(count)


def packed(count: int) -> str:
    return send.submit(pack.map(fetch(count)), {}).result()


@report
@flow
def ends_early() -> None:
    fetch(1)
    raise SystemExit(3)


if __name__ == "__main__":
    print(orders(2))
    print(orders(3))
    with contextlib.suppress(Exception):
        orders(4)
    print(asyncio.run(orders_without_prices(1)))
    ends_early()
