"""Path patterns as lists of segments, matched in polynomial time; shared by the read rules and the ignore files."""

import re
from collections.abc import Sequence

Segment = re.Pattern[str] | None  # None is `**`: any number of directories

# The wildcard pieces of one segment: a regular expression for a fixed run, or a star.
STAR = object()


def compile_segment(pieces: Sequence[object]) -> re.Pattern[str]:
    """One segment from regular-expression pieces and STARs.

    Each star takes the shortest match for good (an atomic group), as in fnmatch.translate: for globs that loses
    nothing, and `*a*a*a*a*b` in an ignore file of a stranger cannot take exponential time.
    """
    runs: list[str] = [""]
    for piece in pieces:
        if piece is not STAR:
            runs[-1] += str(piece)
        elif runs[-1] or len(runs) == 1:
            runs.append("")
    if len(runs) == 1:
        return re.compile(f"(?s:{runs[0]})\\Z")
    first, *middle, last = runs
    inner = "".join(f"(?>.*?{run})" for run in middle)
    return re.compile(f"(?s:{first}{inner}.*{last})\\Z")


def match(pattern: Sequence[Segment], parts: Sequence[str]) -> bool:
    """Whether the whole path matches; `**` in front and between takes zero or more parts, at the end one or more."""
    at = here = 0
    retry: tuple[int, int] | None = None  # after the last `**`: it alone needs to be tried again, as in a linear glob
    while here < len(parts):
        if at < len(pattern):
            segment = pattern[at]
            if segment is None:
                if at == len(pattern) - 1:
                    return True
                retry = (at + 1, here)
                at += 1
                continue
            if segment.match(parts[here]):
                at += 1
                here += 1
                continue
        if retry is None:
            return False
        at, here = retry[0], retry[1] + 1
        retry = (at, here)
    return at == len(pattern)
