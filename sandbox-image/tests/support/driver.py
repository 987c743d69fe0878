"""Runs programs in a real slot for the tests: one JSON request a line in, one JSON answer a line out.

`driver.py SCRATCH TOOLS|- WALLS_JSON TCP_PORTS_JSON`. A request is {code, context?, limits?, validate?, tools?,
cancel_after?}, or {set: {name: value}} for names of the module `slot`, or {rehearse: limits}.
`tools` says by name what a call gets: {"value": ...}, {"error": {...}}, {"echo": true} (its arguments),
{"hold": n} (an answer once n calls are open), {"silent": true}. An answer is {outcome, calls, most_open, zygote}.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from warmpool.protocol import FrameReader, Limits, Message, Outcome, encode_frame, encode_json
from warmpool_sandbox import kernel
from warmpool_sandbox import slot as slot_module
from warmpool_sandbox.confinement import Walls
from warmpool_sandbox.slot import Slot

LINE_BYTES = 16 * 1024 * 1024


class Tools:
    """Stands where a gateway stands: takes tool calls, gives the answers that the test wants."""

    def __init__(self, slot: Slot, behaviours: dict[str, dict[str, Any]]) -> None:
        self.calls: list[dict[str, Any]] = []
        self.most_open = 0
        self._slot = slot
        self._behaviours = behaviours
        self._held: list[dict[str, Any]] = []
        self._open = 0

    def called(self, data: bytes) -> None:
        (frame,) = FrameReader().feed(data)
        call = frame.json()
        self.calls.append({"tool": call["tool"], "arguments": call["arguments"]})
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        behaviour = self._behaviours[call["tool"]]
        if "hold" in behaviour:
            self._held.append(call)
            if len(self._held) >= behaviour["hold"]:
                for held in reversed(self._held):
                    self._answer(held, {"value": held["arguments"]})
                self._held.clear()
        elif "silent" not in behaviour:
            self._answer(call, {"value": call["arguments"]} if "echo" in behaviour else behaviour)

    def _answer(self, call: dict[str, Any], answer: dict[str, Any]) -> None:
        self._open -= 1
        (frame,) = FrameReader().feed(encode_frame(Message.TOOL_RESULT, {"id": call["id"], **answer}))
        asyncio.get_running_loop().call_soon(self._slot.answer, frame)


async def run(slot: Slot, request: dict[str, Any]) -> dict[str, Any]:
    tools = Tools(slot, request.get("tools") or {})
    program = {"code": request["code"], "context": request.get("context"), "validate": request.get("validate", True)}
    limits = Limits().lowered(request.get("limits") or {})
    timer = None
    if "cancel_after" in request:
        timer = asyncio.get_running_loop().call_later(request["cancel_after"], slot.cancel)
    zygote = slot.zygote_pid
    outcome: Outcome = await slot.run("exe", encode_json(program), limits, tools.called)
    if timer is not None:
        timer.cancel()
    if outcome.clean:
        await slot.refresh()
    else:
        slot.close()
    found = {"calls": tools.calls, "most_open": tools.most_open, "zygote": zygote}
    return {"outcome": json.loads(outcome.to_json()), **found}


async def main() -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    scratch, tools, walls, ports = sys.argv[1:5]
    folder = None if tools == "-" else Path(tools)
    slot = Slot(Path(scratch), folder, Walls(**json.loads(walls)), tcp_ports=json.loads(ports))
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        if "set" in request:
            vars(slot_module).update(request["set"])
            continue
        rehearsal = request.get("rehearse")
        answer = await run(slot, request) if rehearsal is None else await slot.rehearse(Limits().lowered(rehearsal))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    slot.close()


if __name__ == "__main__":
    asyncio.run(main())
