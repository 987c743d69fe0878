"""warmpool: a pool of warm sandboxes for the code a language model writes.

This package holds what the other parts share. Importing it costs nothing: the sandbox imports
`warmpool.protocol` through it and may see the standard library only.
"""

__version__ = "0.1.0"
