"""Agent and tool text as it may be written: one kind of line end, no control characters; escapes nothing, hides no secret.

API: `Cleaner` (a stream, whatever the cuts between chunks), `clean` (a whole text).

Editors turn CR, VT, FF, NEL, U+2028 and U+2029 into line ends when they save, so a marker could hide behind one. Sequences
have a longest length, so that what is held back between chunks stays bounded and any cutting gives the same result.
"""

from __future__ import annotations

import re

_CSI = r"\[[0-?]{0,64}[ -/]{0,8}"
_STRING = r"[\]P^_X][^\x07\x1b\x9c]{0,4096}"  # OSC, DCS, PM, APC, SOS
# One set of characters first: the search then skips all others at 3 ns each, an alternation of sequences takes 40.
_TOKEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff](?:"
    rf"(?<=\x1b)(?P<drop>{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|[ -/]{{1,4}}[0-~]|[78=>cDEHMNOZ])"
    rf"|(?P<held>(?:(?<=\x1b)(?:{_CSI}|{_STRING}\x1b?|[ -/]{{0,4}})?|(?<=[\r\ud800-\udbff]))\Z)"
    r"|(?P<line>(?<=\r)\n|(?<=[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]))"
    r"|(?P<pair>(?<=[\ud800-\udbff])[\udc00-\udfff])"
    r"|(?P<control>))"
)
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09, 0x0A})


class Cleaner:
    """Carries half a CRLF, escape sequence or character over to the next chunk."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The clean form of all that is certain by now."""
        text = self._held + text
        self._held = ""
        if text.isascii() and len(text.encode().translate(None, _CONTROLS)) == len(text):
            return text  # nearly all text that streams, at an eighth of the time
        return _TOKEN.sub(self._replace, text)

    def finish(self) -> str:
        """What was held back. The cleaner can be used again."""
        parts = []
        while self._held:
            first, rest = self._held[0], self._held[1:]
            self._held = ""
            parts += ["\n" if first == "\r" else _shown(first), self.feed(rest)]
        return "".join(parts)

    def _replace(self, found: re.Match[str]) -> str:
        if found.lastgroup == "held":
            self._held = found.group()
            return ""
        return _final(found)


def _final(found: re.Match[str]) -> str:
    text = found.group()
    match found.lastgroup:
        case "drop":
            return ""
        case "line":
            return "\n"
        case "pair":
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
    return _shown(text)


def _shown(character: str) -> str:
    """C0 and DEL as their pictures; C1 and halves of a character as U+FFFD."""
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number) if character not in "\t\n" else character
    if number == 0x7F:
        return "\u2421"
    return "\ufffd" if 0x80 <= number < 0xA0 or 0xD800 <= number < 0xE000 else character


def clean(text: str) -> str:
    """A whole text at once."""
    cleaner = Cleaner()
    return cleaner.feed(text) + cleaner.finish()
