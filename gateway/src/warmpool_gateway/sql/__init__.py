"""The gateway's statements, each in a file of its own whose header names inputs and result."""

from importlib.resources import files


def statement(name: str) -> bytes:
    return files(__name__).joinpath(f"{name}.sql").read_bytes()
