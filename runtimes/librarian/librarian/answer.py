"""A question in plain words -> the passages that hold the answer, quoted. It says nothing that no file says."""

from librarian import query
from librarian.library import Library
from librarian.quotes import escape, quote_of, render
from librarian.search import Found, Hit
from librarian.turn import Prompt, Turn

SHOWN = 3
WORTH = 0.45  # of the best passage's score: what is weaker is not shown

HELLO = """I search the text and Markdown files of this workspace and quote what they say.

Ask in your own words, or use a command:
"""


def answer(turn: Turn, library: Library, prompt: Prompt) -> None:
    question = query.understand(prompt.text)
    if question.empty:
        turn.say("There is no word in this that I could search for. Ask in your own words, or `/find WORDS`.\n")
        return
    count = library.count()
    words = ", ".join(term.text for term in question.terms[:8])
    tool = turn.tool("search", f"Search {files(count)} for {words}", rawInput={"terms": words})
    found = library.search.ask(question, prompt.favoured)
    hits = worth_showing(found)
    tool.done(
        f"Search {files(count)} for {words}: {passages(len(found.hits))}",
        locations=[turn.location(hit.path, hit.line) for hit in hits],
    )
    if not hits:
        turn.say(nothing(question, library, count))
        return
    turn.say(caution(found, hits))
    for hit in hits:
        turn.say(render(quote_of(hit), turn.scope.base) + "\n")
    shown = "The best one" if len(hits) == 1 else f"The best {len(hits)}"
    others = f" of {passages(len(found.hits))} that match" if len(found.hits) > len(hits) else ""
    if len(found.hits) == 1:
        shown = "The only passage that matches"
    turn.say(f"*{shown}{others}; searched {files(count)}.*\n")


def worth_showing(found: Found) -> list[Hit]:
    if not found.hits:
        return []
    best = found.hits[0].score
    return [hit for hit in found.hits[:SHOWN] if hit.score >= best * WORTH]


def caution(found: Found, hits: list[Hit]) -> str:
    """What the reader must know before the quotes: words read as others, words that stand nowhere, partial matches."""
    text = caution_missing(found)
    whole = {term.text for term in found.terms if not term.piece}
    held = set().union(*(hit.holds for hit in hits)) & whole
    if held and not any(hit.holds >= whole for hit in hits):
        text += f"No passage holds all of your words; these hold {listed(sorted(held))}.\n\n"
    return text


def caution_missing(found: Found) -> str:
    notes = [f"No file holds *{escape(word)}*; read as *{escape(meant)}*." for word, meant in found.read_as.items()]
    if found.missing:
        notes.append(f"No file holds {listed(found.missing)}.")
    return " ".join(notes) + "\n\n" if notes else ""


def nothing(question: query.Question, library: Library, count: int) -> str:
    words = listed([term.text for term in question.terms])
    text = f"I found nothing: no file here holds {words}. I searched {files(count)}"
    left_out = library.left_out()
    text += f" (left out: {left_out}).\n" if left_out else ".\n"
    return text + "\n`/toc` lists the headings, `/find WORDS` the lines that hold words.\n"


def listed(words: list[str]) -> str:
    shown = [f"*{escape(word[:60])}*" for word in words[:8]]
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return (", ".join(shown[:-1]) + f" or {shown[-1]}" if len(shown) > 1 and not more else ", ".join(shown)) + more


def files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def passages(count: int) -> str:
    return "1 passage" if count == 1 else f"{count:,} passages"
