"""Opens streams to the pods that will be leased next, so that no caller waits for a handshake, which takes 1.5 ms.

A pod that serves many executions is met once. One of single use would be met by each of its callers.
"""

import asyncio
import logging
from typing import Final

from warmpool.errors import Unavailable
from warmpool.registry import Registry
from warmpool_gateway.pods import PodConnections

LOOK_SECONDS: Final = 0.5
AHEAD: Final = 64
"""Pods to know, of those that became idle last: more than are leased between two looks, but for a burst."""
AT_ONCE: Final = 8

logger = logging.getLogger(__name__)


class Introductions:
    """`run` it once."""

    def __init__(self, registry: Registry, pods: PodConnections) -> None:
        self._registry = registry
        self._pods = pods
        self._silent: set[str] = set()
        """Those that gave no answer are not asked again: whoever leases them, or keeps their heartbeat, will see."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable:
                pass  # the queue says that Redis is away
            except Exception:
                logger.exception("no introductions")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Raises Unavailable."""
        next_up = await self._registry.next_up(AHEAD)
        self._silent &= next_up.keys()
        strangers = [
            (pod, address)
            for pod, address in next_up.items()
            if pod not in self._silent and not self._pods.knows(pod, address)
        ]
        for start in range(0, len(strangers), AT_ONCE):
            some = strangers[start : start + AT_ONCE]
            answers = await asyncio.gather(*(self._pods.greet(pod, address) for pod, address in some))
            self._silent |= {pod for (pod, _), answer in zip(some, answers, strict=True) if not answer}
