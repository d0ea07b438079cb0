"""Bytes as one reads them."""

from __future__ import annotations


def gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**8 else f"{size / 1e6:.0f} MB"
