"""A conversation file as a page, as the places render it where people look: CommonMark with GitHub's additions, and their style.

Two renderers: `markdown_it` (ours) and `cmark_gfm` (GitHub's own, a program of the system). What neither of them has is done to
their HTML: alerts, the table of the front matter, the removal of elements that GitHub does not let through; for the first one
also task lists and the filter of tags.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = (Path(__file__).parent / "rendering.css").read_text("utf-8")
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_ALERT = re.compile(r"<blockquote>\s*<p>\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\](?:<br ?/?>)?\s*")
_TASK = re.compile(r"<li>(\s*<p>|)\[([ xX])\] ")
_FILTERED = re.compile(r"<(?=/?(?:title|textarea|style|xmp|iframe|noembed|noframes|script|plaintext)\b)", re.IGNORECASE)
_ELEMENTS = (
    "h[1-6] p br hr a img em strong b i s del code pre sub sup kbd ul ol li blockquote table thead tbody tr th td div span input "
    "details summary"
)
_OTHERS = re.compile(rf"</?(?!(?:{'|'.join(_ELEMENTS.split())})\b)[a-zA-Z][^<>]*>")


def markdown_it(text: str) -> str:
    """HTML of a Markdown text without front matter."""
    made = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    boxes = _TASK.sub(
        lambda box: f'<li class="task">{box[1]}<input type="checkbox" disabled{"" if box[2] == " " else " checked"}> ', made
    )
    return _FILTERED.sub("&lt;", boxes)


def cmark_gfm(text: str) -> str:
    """The same by the renderer that GitHub uses."""
    assert shutil.which("cmark-gfm"), "cmark-gfm is not installed: scripts/system-packages installs it"
    names = ("table", "strikethrough", "autolink", "tagfilter", "tasklist")
    words = ["cmark-gfm", "--unsafe", *(word for name in names for word in ("-e", name))]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


RENDERERS = {"markdown-it": markdown_it, "cmark-gfm": cmark_gfm}


def page(content: str, renderer: str = "markdown-it") -> str:
    """A whole HTML page; it fetches nothing."""
    text = content.removeprefix("\ufeff").replace("\r\n", "\n")
    front = _FRONT.match(text)
    table = _table(front[1]) if front else ""
    body = _OTHERS.sub("", RENDERERS[renderer](text[front.end() :] if front else text))
    body = _ALERT.sub(
        lambda kind: f'<blockquote class="alert {kind[1].lower()}"><p class="title">{kind[1].title()}</p>\n<p>', body
    )
    head = f'<head><meta charset="utf-8"><style>{STYLE}</style></head>'
    return f"<!doctype html><html>{head}<body><main>{table}{body}</main></body></html>"


def _table(front: str) -> str:
    """The front matter as GitHub shows it: keys above, values below."""
    pairs = [line.partition(":")[::2] for line in front.splitlines() if ":" in line]
    rows = (
        "".join(f"<{cell}>{html.escape(pair[place].strip())}</{cell}>" for pair in pairs)
        for place, cell in enumerate(("th", "td"))
    )
    return "<table class=front>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
