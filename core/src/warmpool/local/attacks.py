"""Five things that hostile code tries, as the demo shows them. docs/security.md has the whole list."""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Attack:
    """A program, and the statuses that mean it got nothing."""

    title: str
    code: str
    held: tuple[str, ...]
    limits: dict[str, Any] | None = None


ATTACKS: Final = (
    Attack(
        "read the machine's users",
        "import os\nreturn os.read(os.open('/etc/passwd', os.O_RDONLY), 100)",
        ("user_error",),
    ),
    Attack(
        "call home over the network",
        "import asyncio\nasync def call_home():\n    await asyncio.open_connection('127.0.0.1', 6379)\n"
        "asyncio.run(call_home())\nreturn 'connected'",
        ("user_error",),
    ),
    Attack(
        "kill every process in sight, then start a shell",
        "import os\nos.kill(os.getppid(), 9)\nos.execv('/bin/sh', ['sh', '-c', 'id'])",
        ("user_error",),
    ),
    Attack(
        "fork without end, in new sessions",
        (
            "import os\nwhile True:\n    try:\n        if os.fork() == 0:\n            os.setsid()\n"
            "    except OSError:\n        pass"
        ),
        ("timeout", "cpu_limit"),
        {"wall_seconds": 1},
    ),
    Attack("take all memory", "hoard = []\nwhile True:\n    hoard.append(bytearray(10_000_000))", ("memory_limit",)),
)
