"""Keeps idle pods in service while nobody else does: with the operator away, leasing goes on.

A pod that has not been seen for half of its time is greeted, and seen if it answers. The others stay unseen, and the
registry hands them out no more. As long as an operator keeps the heartbeat, this costs one script a look.
"""

import asyncio
import logging
import random
from itertools import islice
from typing import Final

from warmpool.errors import Unavailable
from warmpool.registry import Registry
from warmpool_gateway.pods import PodConnections

LOOKS: Final = 6  # in the time that a pod may go unseen: a pod has three looks before it is given up
AT_ONCE: Final = 16  # greetings, a millisecond each; those that get no answer hold the others up for 2 s

logger = logging.getLogger(__name__)


class Heartbeats:
    """`run` it once."""

    def __init__(self, registry: Registry, pods: PodConnections, heartbeat_seconds: float) -> None:
        self._registry = registry
        self._pods = pods
        self._heartbeat_seconds = heartbeat_seconds

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # Gateways that looked at the same time would greet the same pods.
            await asyncio.sleep(self._heartbeat_seconds / LOOKS * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            try:
                await self.look()
            except Unavailable as fault:
                logger.warning("no heartbeat of idle pods: %s", fault)
            except Exception:
                logger.exception("no heartbeat of idle pods")

    async def look(self) -> None:
        """Greets the pods that need it. Raises Unavailable."""
        unseen = iter((await self._registry.unseen(self._heartbeat_seconds / 2)).items())
        while some := list(islice(unseen, AT_ONCE)):
            answers = await asyncio.gather(*(self._pods.greet(pod, address) for pod, address in some))
            alive = [pod for (pod, _), answer in zip(some, answers, strict=True) if answer]
            if alive:
                await self._registry.heartbeat(alive)
