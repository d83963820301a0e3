"""Text from strangers, made fit to be stored and shown."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, limit: int) -> str:
    """Text that any database can hold and any log can print, cut to ``limit`` characters."""
    if len(text) <= limit and text.isprintable():
        return text
    clean = "".join(c if c.isprintable() else "�" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
