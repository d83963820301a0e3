"""Proof of the promise: return a response and it is final; raise, and it never happened.

Everything here counts effects in the database, never only responses. ``pytest tests/proof``
runs a selection, ``pytest tests/proof -m proof`` the full product, which takes many minutes.
"""
