"""Makes a conversation shorter that fills the model's context: what is older becomes a summary. Pure."""

from collections.abc import Sequence

from assistant.talk import Ask, Message

FILL = 0.8  # of the context: from here on it is made shorter
KEEP = 0.25  # of the context: the newest messages, as they are
ROOM = 0.6  # of the context: at most what is shown to the model for its summary
SYSTEM = """You write the memory of an assistant that works with a person in a directory of files. Write down, in their language
and as short as it can be without losing them: what the person wants and has decided, what was found (files with their paths,
facts, numbers, exact names), what was changed, what failed, and what is left to do. No greeting, no remark about this task."""
HEAD = "What was said before, made shorter:\n\n"


def due(used: int, context: int) -> bool:
    return used > FILL * context


def split(messages: Sequence[Message], context: int) -> tuple[list[Message], list[Message]]:
    """(what becomes a summary, what stays). What stays never begins with a tool's answer: its call would be missing."""
    size, at = 0, len(messages)
    while at > 0 and size + messages[at - 1].size <= KEEP * context:
        at -= 1
        size += messages[at].size
    while at < len(messages) and messages[at].role == "tool":
        at += 1
    if at == 0 and len(messages) > 1:  # it is small, and still the endpoint says that it does not fit
        at = max((place for place, message in enumerate(messages) if message.role == "user"), default=0) or len(messages) - 1
        while at < len(messages) and messages[at].role == "tool":
            at += 1
    return list(messages[:at]), list(messages[at:])


def question(model: str, older: Sequence[Message], context: int) -> Ask:
    """The request for a summary. What is too much is cut in the middle: the beginning holds the task, the end the state."""
    told = "\n\n".join(map(_told, older))
    limit = int(ROOM * context * 3)  # characters; three for each token, to be safe
    if len(told) > limit:
        told = f"{told[: limit // 2]}\n\n[left out]\n\n{told[-limit // 2 :]}"
    return Ask(model, SYSTEM, (Message("user", f"<conversation>\n{told}\n</conversation>\n\nWrite the memory."),))


def _told(message: Message) -> str:
    calls = "".join(f"\n[calls {call.name} {call.arguments[:2000]}]" for call in message.calls)
    text = message.text if message.role != "tool" else message.text[:4000]
    return f"{message.role}: {text}{calls}"


def shortened(summary: str, kept: Sequence[Message]) -> list[Message]:
    return [Message("user", HEAD + summary), *kept]
