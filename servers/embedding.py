"""Texts as vectors: computed here, or asked of an embeddings API.

The two cannot be mixed: a catalogue remembers the model that it was imported with, and the tools refuse
to search it with another.
"""

import math
import os
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from warmpool.errors import PlatformError, Unavailable
from warmpool.settings import EmbeddingSettings

Matrix: TypeAlias = NDArray[np.float32]

HASHED: Final = "hashed-384"

API_BATCH: Final = 256
"""Texts a request: far below the API's 2,048, so that a retry repeats little."""

API_TIMEOUT_SECONDS: Final = 30.0

REMEMBERED_WORDS: Final = 16_384
REMEMBERED_CHARS: Final = 32
"""Of a word at most: one of 500 takes 80 kB, and programs choose what is searched for. So it is 100 MB at most."""

# fmt: off
STOP_WORDS: Final = frozenset({
    "a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "do", "for", "from", "has", "have", "how", "i",
    "in", "is", "it", "its", "me", "my", "need", "no", "not", "of", "on", "or", "our", "please", "show", "some",
    "that", "the", "their", "there", "these", "this", "to", "want", "we", "what", "which", "with", "would", "you",
    "your",
})
# fmt: on


class Embedder(Protocol):
    model: str
    dimensions: int
    max_distance: float
    """Cosine distance past which two texts have nothing in common, as a rule."""

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """One row of unit length a text; the first line of a text may weigh more than the rest."""
        ...

    async def aclose(self) -> None:
        """Lets go of its connections; the last thing that is asked of it."""
        ...


class HashedEmbedder:
    """Words, word pairs and letter groups hashed into 384 buckets: no model, no network, the same everywhere.

    Finds inflections, compounds and misspellings; knows no synonyms.
    """

    model = HASHED
    dimensions = 384
    max_distance = 0.8

    async def embed(self, texts: Sequence[str]) -> Matrix:
        return np.stack([self._vector(text) for text in texts]) if texts else np.empty((0, self.dimensions), np.float32)

    async def aclose(self) -> None:
        """Has none."""

    def _vector(self, text: str) -> NDArray[np.float32]:
        title, _, rest = text.partition("\n")
        vector = 3.0 * _features(_words(title)) + _features(_words(rest))
        length = float(np.linalg.norm(vector))
        return (vector / length if length else vector).astype(np.float32)


class OpenAIEmbedder:
    """Any OpenAI-compatible `/v1/embeddings`, with the key of OPENAI_API_KEY, or `none` for servers that ask for none.

    Making one imports a large package and reads certificates: do it before the event loop runs.
    """

    max_distance = 0.8

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        from openai import AsyncOpenAI  # 1.8 s and 57 MB that the hashed vectors need not pay

        self._client = AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            base_url=settings.base_url,
            timeout=API_TIMEOUT_SECONDS,
            max_retries=2,
        )

    async def embed(self, texts: Sequence[str]) -> Matrix:
        parts = [texts[at : at + API_BATCH] for at in range(0, len(texts), API_BATCH)]
        rows = [row for part in parts for row in await self._request(part)]
        return np.asarray(rows, np.float32).reshape(len(texts), self.dimensions)

    async def aclose(self) -> None:
        await self._client.close()

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        from openai import OpenAIError

        try:
            answer = await self._client.embeddings.create(
                model=self.model, input=list(texts), dimensions=self.dimensions, encoding_format="float"
            )
        except OpenAIError as fault:
            raise Unavailable(f"the embeddings API failed: {fault}") from fault
        rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        if len(rows) != len(texts) or any(len(row) != self.dimensions for row in rows):
            raise PlatformError(
                f"the embeddings API did not return {len(texts)} vectors of {self.dimensions} dimensions "
                f"for model {self.model}; check embedding.dimensions"
            )
        return rows


def embedder(settings: EmbeddingSettings) -> Embedder:
    """Raises ValueError where the settings contradict themselves."""
    if settings.model != HASHED:
        return OpenAIEmbedder(settings)
    if settings.dimensions != HashedEmbedder.dimensions:
        raise ValueError(f"embedding.dimensions: {HASHED} has {HashedEmbedder.dimensions}, not {settings.dimensions}")
    return HashedEmbedder()


def require_same_model(stored: tuple[str, int] | None, embedder: Embedder) -> None:
    """Raises PlatformError where a catalogue was imported with another model."""
    if stored is not None and stored != (embedder.model, embedder.dimensions):
        raise PlatformError(
            f"the catalogue was imported with embedding model {stored[0]} ({stored[1]} dimensions), but the settings "
            f"say {embedder.model} ({embedder.dimensions}): set embedding.model and embedding.dimensions back, "
            "or import into a new database"
        )


def as_text(vector: NDArray[np.float32]) -> str:
    """As pgvector reads it."""
    return "[" + ",".join(f"{value:.5g}" for value in vector.tolist()) + "]"


def _words(text: str) -> list[str]:
    letters = text.casefold()
    if not letters.isascii():
        letters = "".join(
            letter for letter in unicodedata.normalize("NFKD", letters) if not unicodedata.combining(letter)
        )
    return [_stem(word) for word in re.findall(r"[^\W_]+", letters) if word not in STOP_WORDS]


def _stem(word: str) -> str:
    """Without a plural's ending; the letter groups take care of the rest."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _features(words: list[str]) -> NDArray[np.float64]:
    vector = np.zeros(HashedEmbedder.dimensions)
    for bucket, weight in _weighted(words):
        vector[bucket] += weight
    return vector


def _weighted(words: list[str]) -> Iterator[tuple[int, float]]:
    for word in words:
        yield from _remembered(word) if len(word) <= REMEMBERED_CHARS else _of_word(word)
    for pair in pairwise(words):
        yield _bucket(" ".join(pair), 0.5)


def _of_word(word: str) -> tuple[tuple[int, float], ...]:
    """A word and its groups of three and four letters, which weigh as much as the word together."""
    framed = f"^{word}$"
    groups = [framed[at : at + size] for size in (3, 4) for at in range(len(framed) - size + 1)]
    share = 1.0 / math.sqrt(len(groups)) if groups else 0.0
    return (_bucket(word, 1.0), *(_bucket(group, share * 0.6) for group in groups))


_remembered = lru_cache(maxsize=REMEMBERED_WORDS)(_of_word)


def _bucket(feature: str, weight: float) -> tuple[int, float]:
    """Where a feature counts, and with which sign, so that collisions cancel. CRC-32 is the same in every process."""
    digest = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
    return digest % HashedEmbedder.dimensions, weight if digest & 0x8000_0000 else -weight
