"""Fetches the shards that a process will need next into the cache, while it trains."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence

from dnnlib.errors import UserError
from training.sampler import LaneOrder
from training.shards import ShardStorage

THREADS = 4
"""Shards that are fetched at once."""
ROUNDS = 2
"""What each lane reads now, and what it reads next."""

_log = logging.getLogger(__name__)


class ShardPrefetcher:
    """Threads that fetch; whoever needs a shard before it is there waits for it, or fetches it."""

    def __init__(self, storage: ShardStorage, order: LaneOrder, lanes: range) -> None:
        """Fetch for some lanes of an order, which nobody else may use.

        Raises:
            UserError: the cache has no room for what these lanes need at once.
        """
        self._storage, self._order, self._lanes = storage, order, lanes
        self._asked: Sequence[int] = ()
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"fetch shards {number}", daemon=True) for number in range(THREADS)]
        self._check_room()

    def tell(self, position: int) -> None:
        """The batch at this position comes next. The first call starts the threads: better after loader workers were forked."""
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        ahead = self._order.ahead(position, self._lanes, ROUNDS)
        for shard in ahead:
            if shard not in self._asked:
                self._wanted.put(shard)
        self._asked = ahead

    def close(self) -> None:
        """End the threads, each after what it is fetching."""
        for _ in self._threads:
            self._wanted.put(None)

    def _work(self) -> None:
        while (shard := self._wanted.get()) is not None:
            try:
                self._storage.bring(shard)
            except UserError as error:
                _log.info("Fetching ahead: %s", error)  # who needs the shard tries again, and says so if that fails, too

    def _check_room(self) -> None:
        cache, shards = self._storage.cache, self._storage.shards
        assert cache is not None  # nobody fetches local shards
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of this machine, as torchrun says it
        most = min(len(shards), ROUNDS * len(self._lanes) * neighbours)
        need = sum(sorted((shard.size for shard in shards), reverse=True)[:most])
        if need > cache.limit:
            raise UserError(
                f"{self._storage.place}: {most} of its shards are needed at once on this machine, {need / 1e9:.2g} GB, but the cache is "
                f"limited to {cache.limit / 1e9:.2g} GB; give a higher --data-cache-gb, or make smaller shards."
            )
