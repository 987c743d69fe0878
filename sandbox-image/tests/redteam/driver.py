"""Runs attacks in a real slot, as the user it was started as: one JSON request a line in, JSON answers a line each out.

`driver.py WALLS_JSON SCRATCH TCP_PORTS_JSON`.

A request {program, limits, dumpable} is answered by {outcome, descriptors}, the latter being how many this process
holds once all is over; before that by {ready} where the program calls the tool redteam.ready. A request {cancel} ends
the program that runs.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from warmpool.protocol import FrameReader, Limits, Message, encode_frame, encode_json
from warmpool_sandbox import execution, kernel, processes
from warmpool_sandbox.confinement import Walls
from warmpool_sandbox.slot import Slot

LINE_BYTES = 4 * 1024 * 1024
SECRET = os.environ.get("REDTEAM_SECRET")  # kept where an attack would look for it


class Tools:
    """Stands where a gateway stands."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def called(self, data: bytes) -> None:
        (frame,) = FrameReader().feed(data)
        call = frame.json()
        if call["tool"] == "redteam.echo":
            reply = encode_frame(Message.TOOL_RESULT, {"id": call["id"], "value": call["arguments"]})
            (answer,) = FrameReader().feed(reply)
            asyncio.get_running_loop().call_soon(self._slot.answer, answer)
        elif call["tool"] == "redteam.ready":
            say({"ready": call["arguments"]})


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def answer(slot: Slot, request: dict[str, Any]) -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, int(request["dumpable"]))
    limits = Limits(**request["limits"])
    # An ordinary user's other processes, those of other tests among them, count against the limit, and come and go.
    slot._uid_tasks = processes.tasks_of_user(os.getuid())
    outcome = await slot.run("redteam", encode_json(request["program"]), limits, Tools(slot).called)
    if outcome.clean:
        await slot.refresh()
    else:
        slot.close()
        await slot.start()
    say({"outcome": json.loads(outcome.to_json()), "descriptors": len(os.listdir("/proc/self/fd"))})


async def main() -> None:
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o077)
    execution._END_SECONDS = 0.3  # type: ignore[misc]  # with the scope down, every tree that is left is given up
    slot = Slot(Path(sys.argv[2]), None, Walls(**json.loads(sys.argv[1])), tcp_ports=json.loads(sys.argv[3]))
    await slot.start()
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as running:
        while line := await reader.readline():
            request = json.loads(line)
            if "cancel" in request:
                slot.cancel()
            else:
                running.create_task(answer(slot, request))
    slot.close()


if __name__ == "__main__":
    asyncio.run(main())
