"""A page in a real browser without a window: its picture, and what a person would see on it; the browser reaches no network."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

Colour = tuple[int, ...]

WIDTH = 900
DEADLINE = 60.0
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
# run by the browser when the page is there; what is folded away or a comment is not in an element's innerText
_LOOK = """<script>
const all = (selector) => [...document.querySelectorAll(selector)];
document.documentElement.dataset.seen = JSON.stringify({
  text: document.body.innerText,
  height: document.documentElement.scrollHeight,
  headings: all("h2").map((one) => [one.innerText, one.parentElement.tagName]),
  details: all("details").map((one) => [one.querySelector("summary")?.innerText, one.open, one.offsetHeight]),
  diffs: all("pre > code.language-diff").map((one) => one.textContent),
  alerts: all(".alert").map((one) => [one.className, one.innerText]),
  boxes: all("input[type=checkbox]").map((one) => [one.closest("li")?.innerText.trim(), one.checked]),
  elements: [...new Set(all("main *").map((one) => one.tagName.toLowerCase()))].sort(),
});
</script>"""
_COUNT = """<img src="data:image/png;base64,PICTURE" onload="count(this)"><script>
function count(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const seen = {};
  const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let at = 0; at < bytes.length; at += 4) {
    const colour = `${bytes[at]} ${bytes[at + 1]} ${bytes[at + 2]}`;
    seen[colour] = (seen[colour] || 0) + 1;
  }
  document.documentElement.dataset.seen = JSON.stringify([canvas.width, canvas.height, seen]);
}
</script>"""


def look(page: str) -> dict[str, Any]:
    """What a person sees on an HTML page. Raises subprocess.SubprocessError when the browser does not come to it."""
    seen: dict[str, Any] = _seen(page.replace("</body>", f"{_LOOK}</body>"))
    return seen


def colours(path: Path) -> tuple[int, int, dict[Colour, int]]:
    """Width and height of a PNG, and how many of its pixels have which colour (red, green, blue)."""
    width, height, found = _seen(_COUNT.replace("PICTURE", base64.b64encode(path.read_bytes()).decode()))
    return width, height, {tuple(map(int, colour.split())): count for colour, count in found.items()}


def _seen(page: str) -> Any:
    """What a script of the page left in its `data-seen`."""
    shown = _run(page, "--dump-dom")
    found = re.search(r'data-seen="([^"]*)"', shown)
    assert found is not None, shown[:500]
    return json.loads(unescape(found[1]))


def picture(page: str, path: Path, height: int) -> None:
    """A PNG of the top of the page."""
    _run(page, f"--screenshot={path}", f"--window-size={WIDTH},{height}")


def _run(page: str, *words: str) -> str:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: scripts/system-packages installs it"
    folder = Path(tempfile.mkdtemp(prefix="page-", dir="/var/tmp"))
    try:
        (folder / "page.html").write_text(page, "utf-8")
        environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        argv = [program, *_OPTIONS, f"--user-data-dir={folder}/profile", *words, (folder / "page.html").as_uri()]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE)
        return done.stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
