"""What the stream to a sandbox costs in processor time: one trivial request and its result, at both ends.

The bytes are made and read as gateway and supervisor make and read them; no socket is in it. Control: the same
two payloads written and read by the standard library's json alone, without frames, checks or records.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from warmpool.protocol import Frame, FrameReader, Limits, Message, Outcome, Status, Stream, Usage, encode_frame
from warmpool_gateway.encoding import json_bytes
from warmpool_gateway.outcomes import read_outcome
from warmpool_loadtests.figures import spread

ROUNDS: Final = 15
PAIRS: Final = 2000

REQUEST: Final[dict[str, Any]] = {
    "execution": "exe_01jdm8q6z5n9w7v3k2x4",
    "fence": 1_764_120_000_000_000,
    "code": "return sum(range(10))",
    "context": None,
    "limits": {"wall_seconds": 5.0},
    "validate": True,
}
OUTCOME: Final = Outcome(
    execution=REQUEST["execution"],
    status=Status.OK,
    value=45,
    stdout=Stream(head="ten numbers\n", total_bytes=12),
    usage=Usage(wall_seconds=0.004211, cpu_seconds=0.002104),
    clean=True,
)
_RESULT: Final = asdict(OUTCOME)


def measure(rounds: int = ROUNDS, pairs: int = PAIRS) -> dict[str, Any]:
    """Rounds of both kinds in turn, so that a machine that slows down slows both."""
    request, result = _write_request(), _write_result()
    steps: dict[str, Callable[[], object]] = {
        "write_request": _write_request,
        "read_request": lambda: _read_request(request),
        "write_result": _write_result,
        "read_result": lambda: _read_result(result),
        "control": _control,
    }
    for step in steps.values():
        _microseconds(step, pairs)  # the interpreter learns
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(_microseconds(step, pairs))
    control = taken.pop("control")
    whole = [sum(parts) for parts in zip(*taken.values(), strict=True)]
    return {
        "rounds": rounds,
        "pairs_per_round": pairs,
        "request_bytes": len(request),
        "result_bytes": len(result),
        "cpu_ms_per_request": spread([microseconds / 1000 for microseconds in whole]),
        "cpu_us_by_step": {name: spread(values) for name, values in taken.items()},
        "control_json_cpu_ms_per_request": spread([microseconds / 1000 for microseconds in control]),
        "ratio_to_json": spread([a / b for a, b in zip(whole, control, strict=True)]),
    }


def _microseconds(step: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - started) / times * 1_000_000


def _write_request() -> bytes:
    return encode_frame(Message.RUN, json_bytes(REQUEST))


def _read_request(data: bytes) -> Limits:
    return Limits().lowered(_only_frame(data).json()["limits"])


def _write_result() -> bytes:
    return encode_frame(Message.RESULT, OUTCOME.to_json())


def _read_result(data: bytes) -> Outcome:
    return read_outcome(_only_frame(data).json())


def _only_frame(data: bytes) -> Frame:
    (frame,) = FrameReader().feed(data)
    return frame


def _control() -> None:
    for payload in (REQUEST, _RESULT):
        json.loads(json.dumps(payload))
