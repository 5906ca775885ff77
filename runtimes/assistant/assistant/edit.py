"""Exact replacement in a text. Pure: it finds nothing that is merely alike."""


class NotExact(Exception):
    """The old text is not there, or more than once; the sentence is for the model."""


def replaced(text: str, old: str, new: str, every: bool = False) -> str:
    """`text` with `old` replaced: the one place where it stands, or with `every` each of them.

    Where the file ends its lines with CR LF and the old text does not, both are taken to mean those of the file: models write LF.
    """
    if not old:
        raise NotExact("the old text is empty; `write` makes a file")
    if old == new:
        raise NotExact("the old and the new text are the same")
    if old not in text and "\r\n" in text and "\r" not in old:
        old, new = old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    places = _places(text, old)
    if not places:
        raise NotExact("the old text is not in the file exactly as you wrote it; read the file again")
    if len(places) == 1 or every:
        return text.replace(old, new)
    where = ", ".join(str(text.count("\n", 0, place) + 1) for place in places)
    raise NotExact(f"the old text stands there more than once (lines {where}); write more of what is around it, or set `all`")


def _places(text: str, old: str) -> list[int]:
    """The first ten, also those that overlap: which of them is meant is not known either."""
    found: list[int] = []
    at = text.find(old)
    while at >= 0 and len(found) < 10:
        found.append(at)
        at = text.find(old, at + 1)
    return found
