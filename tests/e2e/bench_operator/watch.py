"""Follows the pods of a namespace, for bench_operator.py: what an operator cannot do without, and nothing more.

`python bench_watch.py NAMESPACE` reads the watch that the operator reads, over the same client, parses each line and
throws it away, but for three words of it: how many pods there are of each pool, and were at most. For each line of its
input it says in a line of JSON what it has counted since it began, and the processor time that it took.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Final

from warmpool_operator.api import Api
from warmpool_operator.pool import MANAGED_BY, POOL_LABEL

SILENCE_SECONDS: Final = 3600.0


class Watch:
    def __init__(self, api: Api, namespace: str) -> None:
        self.began = asyncio.Event()
        self.events = 0
        self.pods: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = f"{MANAGED_BY[0]}={MANAGED_BY[1]}"

    async def run(self) -> None:
        """From a namespace without a pod, until cancelled."""
        query = {"labelSelector": self._selector}
        version = (await self._api.call("GET", self._path, query=query))["metadata"]["resourceVersion"]
        self.began.set()
        while True:
            query |= {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
            async for line in self._api.lines(self._path, query, SILENCE_SECONDS):
                event = json.loads(line)
                version = event["object"]["metadata"]["resourceVersion"]
                self._count(event["type"], event["object"]["metadata"]["labels"][POOL_LABEL])

    def _count(self, kind: str, pool: str) -> None:
        self.events += 1
        if kind == "ADDED":
            self.pods[pool] += 1
            self.most[pool] = max(self.most[pool], self.pods[pool])
        elif kind == "DELETED":
            self.pods[pool] -= 1

    def said(self) -> str:
        return json.dumps({"events": self.events, "most": self.most, "cpu_seconds": time.process_time()})


async def main(namespace: str) -> None:
    api = await Api.connect()
    watch = Watch(api, namespace)
    watching, began = asyncio.create_task(watch.run()), asyncio.create_task(watch.began.wait())
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        await asyncio.wait({watching, began}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        sys.stdout.write(f"{watch.said()}\n")
        sys.stdout.flush()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await api.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
