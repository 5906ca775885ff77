"""Hides what is no prose (code, addresses, markup) behind spaces: the text keeps its length, so places stay true. Pure."""

import re

_FENCE = re.compile(r"[ >\t]*(?:[-*+] |\d+[.)] )?[ \t]*(`{3,}|~{3,})")
# Every repetition has an end: a file of a megabyte that was made to be slow takes a second or two, not hours.
_HIDDEN = re.compile(
    r"""
      (?P<code> (?<!`)(`+)(?!`) .{1,400}? (?<!`)\2(?!`) )                  # code in a line
    | !?\[ (?P<label>[^\]\n]{0,500}) \] \( [^)\n]{0,1000} \)             # a link: its label is prose, its target is not
    | </?[A-Za-z][^>\n]{0,300}>                                           # a tag, an address in angle brackets
    | \b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s<>)\]]+
    | \bwww\.[^\s<>)\]]+
    | \b[\w.+-]{1,64}@[\w-]+\.[\w.-]+
    | ^[ ]{0,3}\[[^\]\n]{1,500}\]:[ \t]*\S+                             # the target of a reference
    | &\#?\w{1,32};
    | (?<!\w)[@\#$][\w/.-]+                                             # mentions, tags, variables
    | (?<!\w)[\w.-]{0,100}/[\w./-]+                                     # paths
    | \b\w+(?:[._]\w+)+\b                                              # a.md, snake_case
    | \b[a-z]+[A-Z]\w*\b                                               # camelCase
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def visible(text: str, markdown: bool) -> str:
    """The prose of a text, everything else as spaces; as long as the text, with the same line ends."""
    text = _without_comments(_without_blocks(text)) if markdown else text
    return _HIDDEN.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    if found["label"] is None or found["label"].startswith("`"):
        return blank(found[0])
    start, end = found.start("label") - found.start(), found.end("label") - found.start()
    return blank(found[0][:start]) + visible(found["label"], False) + blank(found[0][end:])


def blank(text: str) -> str:
    return re.sub(r"[^\r\n]", " ", text)


def _without_comments(text: str) -> str:
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        kept += [text[at:start], blank(text[start : end + 3])]
        at = end + 3
    return "".join([*kept, text[at:]])


def _without_blocks(text: str) -> str:
    """Front matter, fenced and indented code as spaces."""
    kept: list[str] = []
    fence, indented, empty = "", False, True
    front = text.startswith(("---\n", "---\r\n"))
    for number, line in enumerate(text.splitlines(keepends=True)):
        bare = line.strip()
        if front:
            kept.append(blank(line))
            front = not (number and bare in ("---", "..."))
            continue
        mark = _FENCE.match(line)
        if fence:
            kept.append(blank(line))
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip("`~ \t\r\n"):
                fence = ""
            continue
        if mark:
            fence = mark[1]
            kept.append(blank(line))
            continue
        indented = line.startswith(("    ", "\t")) and (empty or indented) and bool(bare)
        kept.append(blank(line) if indented else line)
        empty = not bare
    return "".join(kept)
