"""Vectors are the same in every process, near for texts that mean the same words, and of the right model."""

import asyncio
import contextlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp.web
import numpy as np
import pytest

from servers.embedding import HashedEmbedder, Matrix, OpenAIEmbedder, as_text, embedder
from warmpool.errors import PlatformError, Unavailable
from warmpool.settings import EmbeddingSettings

PROGRAM = """
import asyncio, zlib
from servers.embedding import HashedEmbedder
print(zlib.crc32(asyncio.run(HashedEmbedder().embed(["Crème brûlée torch\\nfor desserts"])).tobytes()))
"""


async def distance(one: str, other: str) -> float:
    rows = await HashedEmbedder().embed([one, other])
    return float(1 - rows[0] @ rows[1])


def test_the_vectors_do_not_depend_on_the_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1")
    }
    assert len(seen) == 1


async def test_a_vector_has_unit_length_and_the_right_size() -> None:
    rows = await HashedEmbedder().embed(["red shoes", "", "!?"])
    assert rows.shape == (3, 384)
    assert [round(float(np.linalg.norm(row)), 5) for row in rows] == [1.0, 0.0, 0.0]
    assert (await HashedEmbedder().embed([])).shape == (0, 384)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hiking boots", "hiking boot"),
        ("CRÈME BRÛLÉE", "creme brulee"),
        ("campingstove", "camping stove"),
    ],
)
async def test_forms_of_the_same_words_are_near(one: str, other: str) -> None:
    assert await distance(one, other) < await distance(one, "espresso machine") - 0.1


async def test_no_word_is_remembered_at_length() -> None:
    """A program may search for any number of words of 500 letters, each of which takes 80 kB."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await HashedEmbedder().embed([f"{number:0500}" for number in range(50)])
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()


async def test_other_words_are_far() -> None:
    assert await distance("hiking boots", "espresso machine") > HashedEmbedder.max_distance


async def test_the_first_line_counts_most() -> None:
    query = "rain jacket"
    assert await distance(query, "rain jacket\nfor the tent") < await distance(query, "tent\nfor the rain jacket")


async def test_the_settings_choose_the_embedder() -> None:
    assert isinstance(embedder(EmbeddingSettings()), HashedEmbedder)
    other = EmbeddingSettings(model="another", dimensions=512)
    async with contextlib.aclosing(await asyncio.to_thread(embedder, other)) as chosen:
        assert isinstance(chosen, OpenAIEmbedder)
    with pytest.raises(ValueError, match="hashed-384 has 384, not 512"):
        embedder(EmbeddingSettings(dimensions=512))


def test_a_vector_is_written_as_pgvector_reads_it() -> None:
    assert as_text(np.asarray([0.5, -0.25, 0], np.float32)) == "[0.5,-0.25,0]"


@pytest.fixture
async def api() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A small /v1/embeddings that answers in reverse order, and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def embeddings(request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = json.loads(await request.read())
        asked.append(body)
        if body["model"] == "away":
            return aiohttp.web.json_response({"error": {"message": "no such model"}}, status=404)
        size = 8 if body["model"] == "right" else 9
        data = [{"object": "embedding", "index": n, "embedding": [float(n)] * size} for n in range(len(body["input"]))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return aiohttp.web.json_response({"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})

    app = aiohttp.web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    await runner.cleanup()


@pytest.fixture
def ask(api: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Matrix]]:
    """Embeds with a model of that API."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def embed(model: str, texts: list[str]) -> Matrix:
        settings = EmbeddingSettings(model=model, base_url=api[0], dimensions=8)
        async with contextlib.aclosing(await asyncio.to_thread(OpenAIEmbedder, settings)) as embedder:
            return await embedder.embed(texts)

    return embed


async def test_an_api_is_asked_in_batches_and_its_order_kept(
    api: tuple[str, list[dict[str, Any]]], ask: Callable[..., Awaitable[Matrix]]
) -> None:
    rows = await ask("right", [f"text {n}" for n in range(300)])
    assert rows.shape == (300, 8)
    assert [float(rows[n][0]) for n in (0, 255, 256, 299)] == [0, 255, 0, 43]
    assert [len(body["input"]) for body in api[1]] == [256, 44]
    assert {body["dimensions"] for body in api[1]} == {8}


async def test_vectors_of_another_size_are_refused(ask: Callable[..., Awaitable[Matrix]]) -> None:
    with pytest.raises(PlatformError, match=r"did not return 1 vectors of 8 dimensions"):
        await ask("wrong", ["a"])


async def test_an_api_that_fails_is_unavailable(ask: Callable[..., Awaitable[Matrix]]) -> None:
    with pytest.raises(Unavailable, match="the embeddings API failed"):
        await ask("away", ["a"])
