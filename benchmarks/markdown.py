"""Tables of BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Iterable


def table_head(*titles: str) -> list[str]:
    """The first two lines of a table."""
    return [
        "|" + "".join(f" {title} |" if title else " |" for title in titles),
        "|---" * len(titles) + "|",
    ]


def table_row(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"
