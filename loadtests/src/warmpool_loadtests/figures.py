"""Where figures come from and how they are written: machine, versions, spread, ratios to a control."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import warmpool


def machine() -> dict[str, Any]:
    """What a reader needs to know of where it was measured."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next(
            (line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.processor()
        )
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) // 1024
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "warmpool": warmpool.__version__,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of several rounds."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted or unsorted values; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def write(folder: Path, name: str, figures: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", encoding="utf-8")
    return path
