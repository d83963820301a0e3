"""The id of a key in SQL, as ``django_idempotency.protocol.key_id()`` makes it in Python.

For rows that are made by the database; ``scope`` and ``key`` must be plain ASCII.
"""

from __future__ import annotations

RAW = """SELECT substring(sha256(convert_to(key, 'UTF8')) for 8) || substring(sha256(
  convert_to(length(scope) || ':' || scope || key, 'UTF8')) for 8) AS raw"""
ID = """encode(set_byte(set_byte(raw, 6, get_byte(raw, 6) & 15 | 128),
    8, get_byte(raw, 8) & 63 | 128), 'hex')::uuid"""
