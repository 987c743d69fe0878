"""Writes what the chart has from code, or with --check fails where it has drifted from it.

That is the tool stubs that sandbox pods mount (helm/warmpool/files/tools), and the chart's README from the comments
of values.yaml. Both ways it fails where values.yaml and values.schema.json name different keys.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from servers import definitions
from warmpool.tools import stub_package

CHART: Final = Path(__file__).parents[1] / "helm" / "warmpool"
STUBS: Final = CHART / "files" / "tools"

HEAD: Final = """<!-- Generated from values.yaml by `make reference`. -->

# The chart `warmpool`

A pool of warm, confined sandbox pods for the code that a language model writes: the operator, the gateway, the tool
server, one pool, and for a trial a Redis and a PostgreSQL. [How to install it](../../docs/how-to/install.md).

## Values

| Key | Default | What |
|---|---|---|
"""

LINE: Final = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]+):")
REMARK: Final = re.compile(r" *# ?(?P<text>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One documented key of values.yaml."""

    path: tuple[str, ...]
    description: str
    default: Any


def values(text: str) -> Iterator[Value]:
    """The keys with a comment that begins with `# --`, in their order."""
    defaults = yaml.safe_load(text)
    path: list[str] = []
    description: list[str] = []
    for line in text.splitlines():
        if remark := REMARK.fullmatch(line):
            said = remark["text"]
            if said.startswith("-- "):
                description = [said.removeprefix("-- ")]
            elif description:
                description.append(said)
        elif key := LINE.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if description:
                yield Value(path=tuple(path), description=" ".join(description), default=_at(defaults, path))
            description = []
        else:
            description = []


def readme(text: str) -> str:
    return HEAD + "".join(_row(value) for value in values(text))


def _row(value: Value) -> str:
    description = value.description.replace("|", "\\|")
    return f"| `{'.'.join(value.path)}` | `{json.dumps(value.default)}` | {description} |\n"


def differences(text: str, schema: dict[str, Any]) -> Iterator[str]:
    """What only one of values and schema names, and keys that no comment explains."""
    documented = {value.path for value in values(text)}
    yield from _differences(yaml.safe_load(text), schema, (), documented)


def _differences(
    defaults: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...], documented: set[tuple[str, ...]]
) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in sorted(set(defaults) ^ set(known)):
        where = "values.yaml" if name in known else "values.schema.json"
        yield f"{'.'.join((*path, name))} is missing from {where}"
    for name in [name for name in defaults if name in known]:
        below = (*path, name)
        if below in documented:
            continue
        if isinstance(defaults[name], dict) and known[name].get("properties"):
            yield from _differences(defaults[name], known[name], below, documented)
        else:
            yield f"{'.'.join(below)} has no comment that begins with `# --` in values.yaml"


def _at(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def stubs() -> dict[Path, str]:
    """What programs import, by path below files/tools. The types are for authors, and no pod needs them."""
    with tempfile.TemporaryDirectory() as folder:
        stub_package(definitions(), Path(folder))
        return {file.relative_to(folder): file.read_text() for file in sorted(Path(folder).rglob("*.py"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 on drift")
    check = parser.parse_args().check
    text = (CHART / "values.yaml").read_text()
    wanted = {STUBS / path: content for path, content in stubs().items()} | {CHART / "README.md": readme(text)}
    drifted = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    stale = [path for path in STUBS.rglob("*") if path.is_file() and path not in wanted]
    wrong = [*differences(text, json.loads((CHART / "values.schema.json").read_text()))]
    for line in wrong:
        sys.stderr.write(f"helm/warmpool: {line}\n")
    for path in [*drifted, *stale]:
        name = path.relative_to(CHART.parents[1])
        if check:
            sys.stderr.write(f"{name} has drifted from the code: run `make reference`\n")
        elif path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
            sys.stdout.write(f"wrote {name}\n")
        else:
            path.unlink()
            sys.stdout.write(f"removed {name}\n")
    return 1 if wrong or (check and (drifted or stale)) else 0


if __name__ == "__main__":
    sys.exit(main())
