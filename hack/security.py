"""Writes the table of docs/security.md from the attacks, or with --check fails where it has drifted from them."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"
BEGIN = "<!-- table: written by hack/security.py -->\n"
END = "<!-- end of table -->\n"

sys.path.insert(0, str(ROOT / "sandbox-image" / "tests"))

from redteam.table import as_markdown, load  # noqa: E402


def with_table(page: str) -> str:
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{as_markdown(load())}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page has drifted")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_table(page)
    if options.check and page != wanted:
        sys.stderr.write("docs/security.md has drifted from the attacks: run hack/security.py\n")
        return 1
    if not options.check:
        PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
