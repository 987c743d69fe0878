"""Schemathesis over the OpenAPI document of a running gateway: whatever is sent, no operation answers with a 500."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from servers.search import TOOLS
from warmpool.local import standin

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 40


@pytest.fixture
def model() -> Iterator[str]:
    with standin.running() as url:
        yield url


@pytest.fixture
def changes(model: str) -> dict[str, Any]:
    return {"model": {"base_url": model, "max_retries": 0}}


def hammer(operation: schemathesis.APIOperation, mode: GenerationMode, url: str, key: str) -> Counter[int]:
    """Sends what the document allows, or what it does not; returns the statuses of the answers."""
    statuses: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: schemathesis.Case) -> None:
        response = case.call(base_url=url, headers={"Authorization": f"Bearer {key}"})
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # an operation without inputs has no wrong ones
        send()
    return statuses


# The gateway runs in this process too, and its jitter is what Hypothesis sees.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_whatever_is_sent_no_operation_answers_with_a_500(house, pod, subtests):
    house.tools.say = {"hash": "x", "tools": [tool.definition.to_json() for tool in TOOLS]}
    await house.gateway.queue.look()  # ready from now on
    _, document = await house.ask("GET", "/openapi.json")
    seen: Counter[int] = Counter()
    for result in from_dict(document).get_all_operations():
        operation = result.ok()
        for mode in GenerationMode:
            with subtests.test(f"{operation.label} {mode.value}"):
                seen += await asyncio.to_thread(hammer, operation, mode, house.url, house.key)
    assert {200, 404, 422} <= set(seen)
