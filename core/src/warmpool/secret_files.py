"""Makes the three keys of `SecretSettings`, once: what is there is never changed."""

import secrets
from pathlib import Path
from typing import Final

NAMES: Final = ("pool", "grant", "pepper")


def create(folder: Path) -> list[Path]:
    """Writes the keys that are missing, readable by their owner only, and returns those."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name in NAMES:
        path = folder / f"{name}.key"
        if not path.exists():
            partial = path.with_suffix(".partial")  # a key of which only the file was made would stay so for good
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_hex(32) + "\n")
            partial.rename(path)
            made.append(path)
    return made
