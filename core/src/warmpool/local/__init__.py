"""The single-machine mode: everything that the cluster gives, started from installed packages.

The only part of warmpool that may import all the others.
"""
