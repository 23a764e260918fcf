"""Several runs of a program in one process: PyTorch takes longer to start than many of them to measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

NEXT = "--then"


def runs(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments of each run, which NEXT separates; of one run where there are none."""
    parts = [list(part) for is_next, part in groupby(arguments, NEXT.__eq__) if not is_next]
    return iter(parts or [[]])
