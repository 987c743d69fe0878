"""A model's API over a real socket, which answers as a test scripts it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from warmpool.local import standin


@dataclass
class Reply:
    """One HTTP response; `hang` never sends it, `drop` closes the connection in its place."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False

    @classmethod
    def json(cls, document: Any, status: int = 200, **headers: str) -> "Reply":
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(document).encode(), {"content-type": "application/json", **names})

    @classmethod
    def text(cls, text: str, **usage: Any) -> "Reply":
        """A chat completion."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        counts = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, **usage}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted-1"}
        return cls.json({**head, "choices": [choice], "usage": counts})

    @classmethod
    def error(cls, status: int, code: str = "some_code", **headers: str) -> "Reply":
        return cls.json({"error": {"message": "no", "type": "some_type", "code": code}}, status, **headers)


class ScriptedAPI:
    """Answers with the scripted replies in turn, the last one for ever after."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply.text("Hello.")]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.base_url = ""
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self._open: set[asyncio.Task[Any]] = set()

    def script(self, *replies: Reply) -> None:
        self.replies = list(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._open.discard(task)

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.headers.append(headers)
        self.requests.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
        self.asked.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.hang:
            await reader.read()
            self.hung_up.set()
            return False
        if reply.drop:
            return False
        lines = [f"HTTP/1.1 {reply.status} Status", f"content-length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
        await writer.drain()
        return True


@pytest.fixture
async def model_api() -> AsyncIterator[ScriptedAPI]:
    api = ScriptedAPI()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield api
        await api.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture(scope="session")
def stand_in() -> Iterator[str]:
    """The base URL of the stand-in for a model's server."""
    with standin.running() as url:
        yield url
