"""`make bench`: every figure that the README promises, measured here and written to benchmarks/.

Exit code 1 where a goal is missed; the figures are written all the same.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from warmpool.local.embedded import redis_server, service_folder
from warmpool_loadtests import figures, gateway, protocol, registry, sandbox

FOLDER: Final = Path(__file__).parents[3] / "benchmarks"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of a benchmark by its path, and the bound that it must keep."""

    bench: str
    path: tuple[str | int, ...]
    bound: float
    at_least: bool = False

    def value(self, measured: dict[str, Any]) -> float:
        found: Any = measured
        for key in self.path:
            found = found[key]
        return float(found)

    def is_met(self, measured: dict[str, Any]) -> bool:
        value = self.value(measured)
        return value >= self.bound if self.at_least else value <= self.bound


GOALS: Final = (
    Goal("sandbox", ("cpu_ms_per_cycle", "median"), 5.0),
    Goal("sandbox", ("cycles_per_second", "median"), 300.0, at_least=True),
    Goal("sandbox", ("idle_pss_mib",), 35.0),
    Goal("registry", ("pools", 1, "round_trip_ratio", "median"), 1.2),
    Goal("registry", ("pools", 2, "round_trip_ratio", "median"), 1.2),
    Goal("registry", ("pools", 1, "redis_ratio", "median"), 1.2),
    Goal("registry", ("pools", 2, "redis_ratio", "median"), 1.2),
    Goal("protocol", ("cpu_ms_per_request", "median"), 1.0),
    Goal("gateway", ("errors",), 0.0),
    Goal("gateway", ("seconds_p99", "max"), 5.0),
)


async def _registry() -> dict[str, Any]:
    with service_folder() as folder, redis_server(folder) as url:
        return dict(await registry.measure(url))


async def _protocol() -> dict[str, Any]:
    return dict(protocol.measure())


BENCHES: Final[dict[str, Callable[[], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "sandbox": sandbox.measure,
    "registry": _registry,
    "protocol": _protocol,
    "gateway": gateway.measure,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=tuple(BENCHES), help="measure one of them")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the results (default: benchmarks/)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    measured: dict[str, dict[str, Any]] = {}
    for name in [options.only] if options.only else BENCHES:
        with console.status(f"measuring {name} ..."):
            measured[name] = asyncio.run(BENCHES[name]())
        console.print(f"wrote {figures.write(options.into, name, measured[name])}", highlight=False)
    sys.exit(_report(console, measured))


def _report(console: Console, measured: dict[str, dict[str, Any]]) -> int:
    table = Table("BENCHMARK", "FIGURE", "MEASURED", "GOAL", "")
    missed = 0
    for goal in GOALS:
        if goal.bench not in measured:
            continue
        met = goal.is_met(measured[goal.bench])
        missed += not met
        sign = "≥" if goal.at_least else "≤"
        value = f"{goal.value(measured[goal.bench]):g}"
        table.add_row(
            goal.bench,
            " ".join(map(str, goal.path)),
            value,
            f"{sign} {goal.bound:g}",
            "met" if met else "[red]missed[/]",
        )
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    main()
