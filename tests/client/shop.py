"""A Celery app as somebody might have it: nothing in its tasks knows of Flow Platform. Workers are started with it."""

import os
import signal
import time
from typing import Any

from celery import Celery, Task, chord

app = Celery("shop", set_as_current=False)
app.conf.update(
    broker_url=os.environ["SHOP_BROKER"],
    result_backend=os.environ["SHOP_RESULTS"],
    task_default_queue=os.environ["SHOP_QUEUE"],
    broker_connection_retry_on_startup=True,
)


@app.task
def fetch(order: int) -> int:
    return order


@app.task(bind=True, max_retries=3)
def price(self: "Task[Any, Any]", order: int, failures: int = 0) -> int:
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError(f"no price of {order} yet"), countdown=0.1)
    return order * 10


@app.task
def total(prices: list[int]) -> int:
    return sum(prices)


@app.task
def send(amount: int) -> str:
    return f"sent {amount}"


@app.task
def refuse(order: int) -> None:
    raise ValueError(f"order {order} is empty")


@app.task
def linger(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task
def die(order: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True)
def split(self: "Task[Any, Any]", order: int) -> Any:
    raise self.replace(chord([fetch.s(order), fetch.s(order)], total.s()))


@app.task(bind=True)
def split_in_vain(self: "Task[Any, Any]", order: int) -> Any:
    raise self.replace(refuse.s(order) | fetch.s())


@app.task
def hand_over(order: int) -> None:
    fetch.delay(order)
    (fetch.s(order) | price.s()).delay()


if "FLOWPLATFORM_URL" in os.environ:
    from flowplatform_client.integrations.celery import report

    report(app, arguments=True, results=True)
