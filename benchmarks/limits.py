"""`python -m benchmarks.limits`: what the limits cost a request, with the shares that a process takes and without.

A request with a token spends from three allowances. Spent is against a Valkey of the benchmark's own.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from limits import parse

from benchmarks.scratch import in_scratch


def main(arguments: list[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="(default: %(default)s)")
    requests: int = parser.parse_args(arguments).requests
    sys.exit(in_scratch(lambda home: _measure(requests, home)))


def _measure(requests: int, home: Path) -> int:
    from flowplatform import embedded  # after Django is set up

    with embedded.servers(home, postgres=False):
        _print(requests, embedded.redis_url(home))
    return 0


def _print(requests: int, url: str) -> None:
    from flowplatform.throttling.allowances import Allowance
    from flowplatform.throttling.store import SharedStore

    class Counted(SharedStore):
        asked = 0

        def add(self, key: str, amount: int, seconds: int) -> int | None:
            self.asked += 1
            return super().add(key, amount, seconds)

    store = Counted(url)
    rate = parse(f"{4 * requests}/hour")
    allowances = [Allowance(name, rate, store) for name in ("token", "organization", "address")]

    def leased() -> None:
        for allowance in allowances:
            assert allowance.spend("key").allowed

    def asked() -> None:
        for name in ("a", "b", "c"):
            store.add(name, 1, 3600)

    print("| a request's three allowances | µs | questions to Valkey per 1,000 requests |")
    print("|---|---|---|")
    for name, spend in (("shares", leased), ("a question for each", asked)):
        before = store.asked
        seconds = _seconds(spend, requests)
        questions = (store.asked - before) * 1_000 / requests
        print(f"| {name} | {seconds / requests * 1e6:.1f} | {questions:.1f} |")


def _seconds(step: Callable[[], None], times: int) -> float:
    step()
    begin = time.perf_counter()
    for _ in range(times):
        step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(sys.argv[1:])
