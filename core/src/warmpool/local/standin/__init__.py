"""A stand-in for a language model's server: the real HTTP API in front of a few rules.

It lets everything around a model be run and tested without a key: `warmpool up` starts it where none
is given. It is deterministic, knows no catalogue, learns all it needs from the conversation it is sent,
as a model would, and says in its name and in each answer that it is no language model.
"""

from warmpool.local.standin.running import running
from warmpool.local.standin.server import MODEL, create_app

__all__ = ["MODEL", "create_app", "running"]
