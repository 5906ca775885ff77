"""Words of a text in any script: what the index stores beside the text for scripts without spaces, and how far two
words are apart. Pure."""

import re

# Scripts that are written without spaces, and Hangul, whose words carry their particles: cut into pairs.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_DENSE}]+")
_WORD = re.compile(rf"[{_DENSE}]+|[^\W_{_DENSE}]+")


def is_dense(word: str) -> bool:
    return _RUN.match(word) is not None


def words_of(text: str) -> list[str]:
    """Words in their order; a run of a script without spaces is one word."""
    return _WORD.findall(text)


def pairs(run: str) -> str:
    """`安装指南` -> `安装 装指 指南 南`. The last sign stands alone too, so that a single sign is found as a prefix."""
    return " ".join(run[at : at + 2] for at in range(len(run)))


def grams(text: str) -> str:
    """The pairs of all such runs of a text, for a column of their own; empty for most texts."""
    if text.isascii():
        return ""
    return " ".join(pairs(run) for run in _RUN.findall(text))


def distance(one: str, other: str, limit: int) -> int:
    """Edits (insert, delete, replace, swap of neighbours) between two words; limit + 1 for all that is more."""
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, char in enumerate(one, 1):
        two_back, before, row = before, row, [at]
        for here, mark in enumerate(other, 1):
            cost = min(before[here] + 1, row[-1] + 1, before[here - 1] + (char != mark))
            if at > 1 and here > 1 and char == other[here - 2] and one[at - 2] == mark:
                cost = min(cost, two_back[here - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)
