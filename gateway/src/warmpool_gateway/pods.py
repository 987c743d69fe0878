"""The streams of a gateway to the sandboxes: connect, keep from one execution to the next, close."""

import asyncio
from typing import Final

from warmpool.errors import PlatformError
from warmpool.protocol import Outcome
from warmpool.registry import Lease
from warmpool_gateway.pod_stream import CallTool, NotStarted, Phase, PodStream, Program

CONNECT_SECONDS: Final = 2.0  # connection and handshake together
AGAIN_SECONDS: Final = (0.01, 0.1)
"""From the first to the longest pause between two knocks at a new pod that refuses. A network policy that rejects what
it does not know lags behind a pod's readiness: by up to 120 ms with kube-router on a quiet node."""
MAX_STREAMS: Final = 4096  # idle ones, a descriptor each; the oldest is closed for one more


class PodConnections:
    """Every open stream of a gateway, one a pod at most, kept from one execution to the next."""

    def __init__(self, *, key: bytes, pool: str) -> None:
        self._key = key
        self._pool = pool
        self._streams: dict[str, tuple[str, PodStream]] = {}
        self._met: dict[str, str] = {}
        """Where pods were reached before, the last `MAX_STREAMS` of them: one of these that refuses is dead."""

    async def run(
        self, lease: Lease, program: Program, call_tool: CallTool, gone: asyncio.Future[None]
    ) -> Outcome | NotStarted:
        """As `PodStream.run`, on the stream to the leased pod, which is opened where there is none."""
        stream = self._open(lease)
        if stream is None:
            connected = await self._connect(lease.pod, lease.address, patient=True)
            if isinstance(connected, NotStarted):
                return connected
            stream = connected
            self._remember(lease.pod, lease.address, stream)
        if gone.done():
            return NotStarted(reason="cancelled", message="the caller went away")
        return await stream.run(lease, program, call_tool, gone)

    def knows(self, pod: str, address: str) -> bool:
        """Whether a stream to it is open."""
        return self._streams.get(pod, ("", None))[0] == address

    async def greet(self, pod: str, address: str) -> bool:
        """Whether this pod answers at this address now: by a new handshake, whatever stream to it is open."""
        stream = await self._connect(pod, address)
        if isinstance(stream, NotStarted):
            return False
        if pod in self._streams:
            stream.fail(PlatformError("The pod was only to be greeted.", pod=pod))
        else:
            self._remember(pod, address, stream)
        return True

    def drop(self, pod: str) -> None:
        """The pod is gone or going; its stream is closed."""
        known = self._streams.get(pod)
        if known is not None:
            known[1].fail(PlatformError("The pod is gone.", pod=pod))

    def __len__(self) -> int:
        return len(self._streams)

    async def aclose(self) -> None:
        for pod in list(self._streams):
            self.drop(pod)
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def _open(self, lease: Lease) -> PodStream | None:
        address, stream = self._streams.get(lease.pod, ("", None))
        if stream is not None and address != lease.address:
            self.drop(lease.pod)
            return None
        return stream

    async def _connect(self, pod: str, address: str, *, patient: bool = False) -> PodStream | NotStarted:
        """A patient one knocks again at a pod that refuses, unless it was reached before."""
        stream = PodStream(key=self._key, pool=self._pool, pod=pod, on_closed=self._forget)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._reach(stream, address, patient=patient and self._met.get(pod) != address)
                await stream.ready
        except (OSError, ValueError, PlatformError) as fault:  # TimeoutError is an OSError
            stream.fail(PlatformError("The handshake failed.", pod=pod))
            reason = "handshake" if isinstance(fault, PlatformError) else "unreachable"
            cause = fault.fields.get("cause") if isinstance(fault, PlatformError) else str(fault)
            why = cause or "no answer in time"
            return NotStarted(reason=reason, message=f"{pod} at {address}: {why}")
        except BaseException:
            stream.fail(PlatformError("The connection was given up.", pod=pod))
            raise
        return stream

    async def _reach(self, stream: PodStream, address: str, *, patient: bool) -> None:
        """Raises OSError; a patient one for a refusal only when the time is up."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        pause, longest = AGAIN_SECONDS
        last = loop.time() + CONNECT_SECONDS - longest
        while True:
            try:
                await loop.create_connection(lambda: stream, host.strip("[]"), int(port))
            except ConnectionRefusedError:
                if not patient or loop.time() > last:
                    raise
                await asyncio.sleep(pause)
                pause = min(longest, 2 * pause)
            else:
                break
        self._met[stream.pod] = address
        if len(self._met) > MAX_STREAMS:
            del self._met[next(iter(self._met))]

    def _remember(self, pod: str, address: str, stream: PodStream) -> None:
        if stream.phase is Phase.CLOSED:  # in the turn of its READY; nobody would forget it any more
            return
        self.drop(pod)  # of a greeting that came between
        if len(self._streams) >= MAX_STREAMS:
            oldest = next((known for _, known in self._streams.values() if known.phase is Phase.IDLE), None)
            if oldest is not None:
                self.drop(oldest.pod)
        self._streams[pod] = (address, stream)

    def _forget(self, stream: PodStream) -> None:
        if self._streams.get(stream.pod, ("", None))[1] is stream:
            del self._streams[stream.pod]
