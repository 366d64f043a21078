"""The counters that all processes share, in Valkey. Valkey is never waited for twice, nor by everybody.

The first call that fails says that it is away (refusing, silent or full): from then on nobody asks, and a thread finds
out when it is back.
"""

import logging
import os
import threading
import time

import redis
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 0.25  # to connect, and to answer; it takes a fraction of a millisecond
PROBE_SECONDS = 1.0

_PROBE = "probe"


class SharedStore:
    """Counters with an end. Safe to share between threads; forked processes begin anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)  # threads do not survive a fork

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._storage: RedisStorage | None = None
        self._is_away = False

    def add(self, key: str, amount: int, seconds: int) -> int | None:
        """Add to a counter that ends after some seconds, and return what it says then; `None` while Valkey is away."""
        if self._is_away:
            return None
        try:
            return self._connected().incr(key, seconds, amount)
        except (redis.RedisError, OSError) as error:
            self._leave(error)
            return None

    def _connected(self) -> RedisStorage:
        if self._storage is None:
            self._storage = RedisStorage(
                self._url,
                key_prefix="flowplatform",
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # redis-py would try for seconds
            )
        return self._storage

    def _leave(self, error: Exception) -> None:
        with self._lock:
            if self._is_away:
                return
            self._is_away = True
        logger.warning("Valkey is away (%r): each process limits requests by itself until it is back", error)
        threading.Thread(target=self._come_back, name="limits", daemon=True).start()

    def _come_back(self) -> None:
        """Try to write until it works: a full Valkey answers everything else."""
        while True:
            time.sleep(PROBE_SECONDS)
            try:
                self._connected().incr(_PROBE, 60)
            except (redis.RedisError, OSError):
                continue
            self._is_away = False
            logger.info("Valkey is back: processes share their limits again")
            return
