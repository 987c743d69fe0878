"""What a service logs can be read."""

import io
import logging

import pytest

from warmpool.http_service import Lines


@pytest.fixture
def logged() -> tuple[logging.Logger, io.StringIO]:
    logger, text = logging.Logger("warmpool.test"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Lines())
    logger.addHandler(handler)
    return logger, text


def test_what_is_told_beside_a_message_stands_behind_it(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = logged
    logger.warning("lease of %s not given back", "pod-1", extra={"fault": "Redis\nis away", "tries": 2})
    assert text.getvalue().endswith(
        " WARNING warmpool.test: lease of pod-1 not given back fault='Redis\\nis away' tries=2\n"
    )


def test_a_traceback_comes_last(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = logged
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed", extra={"execution": "exe_1"})
    first, *_, last = text.getvalue().splitlines()
    assert first.endswith("failed execution='exe_1'")
    assert last == "ValueError: broken"
