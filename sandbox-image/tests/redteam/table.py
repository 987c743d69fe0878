"""The table of attacks: what each tries, which wall holds it, and how that wall is shown to be what holds it.

The attacks are data, in attacks/*.toml; docs/security.md is written from the same data. An attack is a program. Its
evidence is its value, such as "denied EACCES" or "got in: ...", or else the status that it was ended with. It is run
behind all walls, where the evidence must be a `verdict`, and once more so that it succeeds, where the evidence must
begin as `without` says. That second run is

- behind all walls but `walls`, where the kernel's walls hold it; several walls each hold it alone, where `alone` names
  none or them;
- with limits `raised`, where the supervisor holds it by a limit;
- as one program with `first`, which otherwise runs before it as a program of its own;
- with `before` put before it, or `instead` of it, where a check holds it that cannot be taken down: a program that
  differs in the one thing that the check looks at; `shown` says in which;
- the run of another attack, `as_in`, where its own would do harm.

Those with `tcp` run where the pool has a network profile: programs may connect to the port `listed`.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from warmpool.protocol import Status

FOLDER: Final = Path(__file__).parent / "attacks"

KERNEL_WALLS: Final = {
    "files": "Landlock files",
    "network": "Landlock TCP",
    "scope": "Landlock scope",
    "seccomp": "system-call filter",
    "rlimits": "resource limits",
    "not dumpable": "supervisor not dumpable",
}
"""Those that a test can take down: the fields of `confinement.Walls`, and the supervisor's own."""

SUPERVISOR_WALLS: Final = {
    "deadline",
    "memory poll",
    "cpu poll",
    "scratch poll",
    "output cap",
    "wipe",
    "protocol checks",
    "no descriptors taken",
    "descriptors",
    "scrubbed environment",
    "fresh fork",
    "fresh seed",
}

_PLAIN: Final = """
import errno

def attempt(action):
    try:
        seen = action()
    except MemoryError:
        return "denied MemoryError"
    except OSError as fault:
        return "denied " + errno.errorcode.get(fault.errno, str(fault))
    return f"got in: {seen}"

def worst(evidence):
    return " ".join(sorted(set(evidence), reverse=True))
"""
_RAW: Final = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def syscall(name, *arguments):
    number = context["numbers"][name] if isinstance(name, str) else name
    passed = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = libc.syscall(ctypes.c_long(number), *passed)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result
"""
_FRAME: Final = """
def frame(kind, body):
    import os, struct
    os.write(3, struct.pack(">IB", len(body), kind) + body)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of an attack and what it must show."""

    code: str
    first: str | None
    beside: str | None
    limits: Mapping[str, Any]
    down: frozenset[str]
    twice: bool
    tcp: bool
    expected: tuple[str, ...]
    exact: bool
    says: str
    residue: str

    def evidence_fits(self, evidence: str) -> bool:
        if self.exact or evidence in Status.__members__.values():
            return evidence in self.expected
        return evidence.startswith(self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    id: str
    attack: str
    walls: tuple[str, ...]
    code: str
    verdict: tuple[str, ...]
    without: tuple[str, ...] = ("got in",)
    alone: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    raised: Mapping[str, Any] = field(default_factory=dict)
    first: str | None = None
    before: str | None = None
    instead: str | None = None
    beside: str | None = None
    as_in: str | None = None
    shown: str = ""
    twice: bool = False
    """Runs two times; its evidence is whether the values are the same."""
    says: str = ""
    """Part of the error's message that goes with the verdict; `without_says` likewise."""
    without_says: str = ""
    residue: str = ""
    """What is left where the wall is down."""
    machine: str | None = None
    tcp: bool = False
    scratch: tuple[str, ...] = ("folder",)

    @property
    def by_kernel(self) -> bool:
        return set(self.walls) <= KERNEL_WALLS.keys()

    def held(self) -> Trial:
        return self._trial(self.code, self.first)

    def held_by(self, wall: str) -> Trial:
        """Behind one of several walls, the others down."""
        return self._trial(self.code, self.first, down=frozenset(self.walls) - {wall})

    def broken(self) -> Trial:
        """The run in which the attack succeeds."""
        code = self.instead if self.instead is not None else self.code
        if self.by_kernel and self.instead is None:
            return self._trial(code, self.first, down=frozenset(self.walls), broken=True)
        prefix = (self.before or "") if self.instead is not None else (self.first or "") + (self.before or "")
        return self._trial(prefix + code, None, broken=True)

    def _trial(
        self, code: str, first: str | None, *, down: frozenset[str] = frozenset(), broken: bool = False
    ) -> Trial:
        return Trial(
            code=with_prelude(code),
            first=with_prelude(first) if first is not None else None,
            beside=self.beside,
            limits={**self.limits, **self.raised} if broken else self.limits,
            down=down,
            twice=self.twice,
            tcp=self.tcp,
            expected=self.without if broken else self.verdict,
            exact=not broken,
            says=self.without_says if broken else self.says,
            residue=self.residue if broken else "",
        )


def with_prelude(code: str) -> str:
    raw = _RAW if any(word in code for word in ("syscall(", "libc", "ctypes.")) else ""
    return _PLAIN + raw + (_FRAME if "frame(" in code else "") + code


def load() -> list[Attack]:
    """Every attack, in the order of the files. Raises ValueError where one does not say how it is shown."""
    attacks = [attack for path in sorted(FOLDER.glob("*.toml")) for attack in _attacks(path)]
    attacks.sort(key=lambda attack: attack.id)
    ids = {attack.id for attack in attacks}
    if len(ids) < len(attacks):
        raise ValueError("an id is used twice")
    for attack in attacks:
        _check(attack, ids)
    return attacks


def _attacks(path: Path) -> Iterable[Attack]:
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["attack"]:
        for name in ("verdict", "without"):
            if isinstance(row.get(name), str):
                row[name] = [row[name]]
        yield Attack(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})


def _check(attack: Attack, ids: set[str]) -> None:
    if not set(attack.walls) <= KERNEL_WALLS.keys() | SUPERVISOR_WALLS:
        raise ValueError(f"{attack.id}: no such wall: {attack.walls}")
    ways = (attack.raised, attack.first, attack.before, attack.instead, attack.as_in)
    if not attack.by_kernel and not any(ways):
        raise ValueError(f"{attack.id}: it is not shown what holds it")
    if attack.as_in is not None and attack.as_in not in ids:
        raise ValueError(f"{attack.id}: {attack.as_in} is no attack")
    if (attack.before or attack.instead) and not (attack.shown or attack.raised):
        raise ValueError(f"{attack.id}: it is not said in what its second run differs")


def as_markdown(attacks: Iterable[Attack]) -> str:
    """The rows of docs/security.md."""
    rows = [
        f"| {a.id} | {a.attack} | {', '.join(KERNEL_WALLS.get(wall, wall) for wall in a.walls)} "
        f"| {_shown_by(a)} | {_words(a.verdict)} |"
        for a in attacks
    ]
    return "\n".join(["| Id | Attack | Wall | Shown by | Verdict |", "|---|---|---|---|---|", *rows]) + "\n"


def _words(evidence: tuple[str, ...]) -> str:
    return " or ".join(f"`{text}`" if text in Status.__members__.values() else text for text in evidence)


def _shown_by(attack: Attack) -> str:
    if attack.as_in is not None:
        return f"as {attack.as_in}"
    if attack.shown:
        return attack.shown
    if attack.raised:
        return f"{' and '.join(f'`{name}`' for name in attack.raised)} raised: it gets through"
    if attack.first is not None:
        return "as one program with what came before, it is seen"
    return f"{_taken_down(attack)}: {_consequence(attack)}"


def _taken_down(attack: Attack) -> str:
    if len(attack.walls) == 1:
        return "taken down"
    names = [KERNEL_WALLS[wall] for wall in attack.alone or attack.walls]
    holding = (
        names[0] if len(names) == 1 else "each" if len(names) == len(attack.walls) else f"each of {' and '.join(names)}"
    )
    return f"all taken down ({holding} alone holds it)"


def _consequence(attack: Attack) -> str:
    if attack.residue:
        return "processes are left and the sandbox is given up"
    if attack.without[0].startswith("got in"):
        return "it gets in"
    answers = [text.removeprefix("denied ") for text in attack.without if text.startswith("denied ")]
    return f"the kernel itself answers {' or '.join(answers)}"
