"""Keeps the first and the last part of an output stream and counts the rest."""

from warmpool.protocol import Stream


class Capture:
    """Bounded memory, whatever is written: `keep_bytes` in halves."""

    def __init__(self, keep_bytes: int) -> None:
        self._half = keep_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total_bytes = 0

    def add(self, data: bytes) -> None:
        self.total_bytes += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            del self._tail[: max(0, len(self._tail) - self._half)]

    def stream(self) -> Stream:
        """As text; bytes that are not UTF-8, or were cut in two, become U+FFFD."""
        truncated = self.total_bytes > len(self._head) + len(self._tail)
        if not truncated:
            return Stream(head=(self._head + self._tail).decode("utf-8", "replace"), total_bytes=self.total_bytes)
        return Stream(
            head=self._head.decode("utf-8", "replace"),
            tail=self._tail.decode("utf-8", "replace"),
            total_bytes=self.total_bytes,
            truncated=True,
        )
