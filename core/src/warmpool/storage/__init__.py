"""PostgreSQL: the connection pool and the schema.

Queries live beside the code that asks them; here is only what all of them share.
"""
