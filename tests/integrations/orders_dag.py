"""A DAG of Airflow as somebody might have it: nothing in it knows of Flow Platform."""

from datetime import datetime, timedelta

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def orders() -> None:
    @task
    def fetch() -> list[int]:
        return [1, 2, 3]

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def price() -> int:
        if get_current_context()["ti"].try_number == 1:
            raise ConnectionError("no prices yet")
        return 10

    @task
    def pack(order: int) -> int:
        return order

    @task
    def gift() -> None:
        raise AirflowSkipException("no gift today")

    @task
    def wrap() -> None:
        """Wait for a gift, and be skipped by the scheduler."""

    @task
    def send(parcels: list[int], price: int) -> str:
        return f"{len(list(parcels))} parcels for {price}"

    @task
    def refuse() -> None:
        raise ValueError("nobody is there")

    @task
    def sign() -> None:
        """Wait for a failure, and never run."""

    fetched = fetch()
    fetched >> gift() >> wrap()
    send(pack.expand(order=fetched), price()) >> refuse() >> sign()


orders()
