"""Catalogues from files: the formats as shops export them, the import into PostgreSQL, and a generator for trials."""
