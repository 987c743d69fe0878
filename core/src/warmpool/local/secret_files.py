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
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n")
            made.append(path)
    return made
