"""Durations, sizes, amounts and money as people write them, turned into numbers; the schema has checked the form."""

from __future__ import annotations

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BINARY = {"k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DECIMAL = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def seconds(text: str) -> float:
    """`90s`, `10m`, `2h`, `1d`."""
    return float(text[:-1]) * _SECONDS[text[-1]]


def size(value: str | int) -> int:
    """`512M`, `2G`: bytes, by powers of 1024."""
    return value if isinstance(value, int) else int(float(value[:-1]) * _BINARY[value[-1]])


def amount(value: str | int) -> int:
    """`200`, `50k`, `2M`: by powers of 1000."""
    return value if isinstance(value, int) else int(float(value[:-1]) * _DECIMAL[value[-1]])


def money(text: str) -> tuple[float, str]:
    """`5 USD`: the amount and the currency."""
    number, currency = text.split(" ")
    return float(number), currency
