"""Modes that misbehave on purpose: crash, flood, noise, deafness, daemons; everything here is harmless outside its process."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

from modes import Mode, Steps, Turn, text_block
from wire import FOREVER, Cancelled, Message, encode

DAEMON_SECONDS = 300  # a daemon that nobody ends leaves by itself
WRITE_BYTES = 1 << 16
BANNER = b"Welcome to Echo!\n\x1b[2J\x1b[31mloading\x1b[0m ...\r\n\xef\xbb\xbf\n\n{not json}\nnull\n42\n"


def before_start(options: dict[str, str]) -> None:
    """`--ignore-term` and `--garbage`, before anything is read."""
    if "ignore-term" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "garbage" in options:
        os.write(1, BANNER)


def die(how: str) -> None:
    """End the process at once with an exit code (a number) or a signal (a name such as SIGKILL); leaves no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.write(2, f"echo: ending as asked: {how}\n".encode())
    if how.isdigit():
        os._exit(int(how))
    number = signal.Signals["SIG" + how.upper().removeprefix("SIG")]
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def chunk_line(turn: Turn, text: str) -> bytes:
    """The line that says `text`, not yet sent."""
    update: Message = {"sessionUpdate": "agent_message_chunk", "content": text_block(text)}
    params: Message = {"sessionId": turn.session.id, "update": update}
    return encode({"jsonrpc": "2.0", "method": "session/update", "params": params})


def crash(turn: Turn, words: list[str]) -> Steps:
    """`[EXIT | SIGNAL] [N]`: ends the process, after N chunks if N is given."""
    for number in range(int(words[1]) if len(words) > 1 else 0):
        turn.say(f"{number + 1} ")
        yield 0.01
    die(words[0] if words and words[0] else "70")


def leave(turn: Turn, words: list[str]) -> None:
    """Exit status 0 in the middle of a turn."""
    turn.say("leaving ")
    os._exit(0)


def half(turn: Turn, words: list[str]) -> None:
    """Half a line, then exit status 0."""
    line = chunk_line(turn, "MUST NOT APPEAR")
    turn.say("half ")
    turn.agent.lines.write(line[:-20])
    os._exit(0)


def mute(turn: Turn, words: list[str]) -> Steps:
    """Closes stdout and lives on."""
    turn.say("mute ")
    os.close(turn.agent.lines.sink)
    yield from hang(turn, words)


def flood(turn: Turn, words: list[str]) -> Steps:
    """`N SIZE`: N updates of SIZE bytes of text, each beginning with its number, without a pause."""
    count, size = int(words[0]) if words else 10_000, int(words[1]) if len(words) > 1 else 100
    head, _, tail = chunk_line(turn, "#").partition(b"#")
    padding = b"x" * (size - 9)
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        chunk = b"".join(b"%s%08d %s%s" % (head, number, padding, tail) for number in numbers)
        turn.agent.lines.write(chunk)
        yield 0  # a moment to hear of a cancel


def huge(turn: Turn, words: list[str]) -> None:
    """`MB`: one line with MB megabytes of text, then a usual chunk."""
    turn.say("before ")
    head, _, tail = chunk_line(turn, "#").partition(b"#")
    turn.agent.lines.write(head)
    for _ in range(16 * int(words[0] if words else "20")):
        turn.agent.lines.write(b"y" * WRITE_BYTES)
    turn.agent.lines.write(tail)
    turn.say("after the huge line ")


def dribble(turn: Turn, words: list[str]) -> Steps:
    """`TEXT`: a chunk that arrives byte by byte, its multi-byte characters cut."""
    text = " ".join(words) or "drop by drop äöü "
    for byte in chunk_line(turn, text):
        turn.agent.lines.write(bytes([byte]))
        yield 0.0005
    turn.said += text


def garbage(turn: Turn, words: list[str]) -> None:
    """Noise of every kind between valid chunks; no text MUST NOT APPEAR may be taken for an answer."""
    for number, noise in enumerate(noises(turn), 1):
        turn.say(f"valid {number} ")
        turn.agent.lines.write(noise + b"\n")
    turn.say("valid end ")
    turn.afterwards = answer_again


def noises(turn: Turn) -> list[bytes]:
    """One kind of noise per line: what is no message, what is a wrong message, what answers nothing."""
    good = chunk_line(turn, "MUST NOT APPEAR")[:-1]
    answer: Message = {"result": {"stopReason": "refusal"}, "jsonrpc": "2.0"}
    answered = turn.agent.answered[-1] if turn.agent.answered else 0
    ids: list[object] = [424242, answered, str(turn.request), None, True, 2**70, [turn.request], {"id": 1}]
    return [
        *BANNER.splitlines(),
        good.replace(b"MUST", b"MUST \xff\xfe"),  # bytes that are no UTF-8
        good[:-10],  # cut short
        good.replace(b'"2.0"', b'"1.0"'),
        good.replace(b'"2.0"', b"2.0"),
        b"[" + good + b"]",  # a batch
        good.replace(b'{"jsonrpc"', b'{"method":"x","jsonrpc"', 1),  # the same key twice
        good.replace(b'"update":', b'"z":NaN,"update":'),
        good.replace(b"MUST", b"MUST \x00"),
        b'{"jsonrpc":"2.0","method":"session/update","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"jsonrpc":"2.0","method":"_echo/surrogate","params":{"text":"\\ud800"}}',
        b'{"jsonrpc":"2.0","method":"_echo/number","params":{"n":1e400,"digits":' + b"9" * 5000 + b"}}",
        b'{"jsonrpc":"2.0","method":7}',
        *(encode({**answer, "id": identity})[:-1] for identity in ids),
    ]


def answer_again(turn: Turn) -> Steps:
    """The prompt's answer a second and a third time, with other contents: the first one counts."""
    turn.agent.respond(turn.request, {"stopReason": "refusal"})
    yield 0.05
    turn.agent.lines.send({"jsonrpc": "2.0", "id": turn.request, "error": {"code": -32603, "message": "too late"}})


def ignore_term(turn: Turn, words: list[str]) -> None:
    """SIGTERM has no effect from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    turn.say("ignoring TERM ")


def ignore_eof(turn: Turn, words: list[str]) -> None:
    """The end of stdin has no effect from now on."""
    turn.agent.loop.ignore_eof = True
    turn.say("ignoring the end of input ")


def hang(turn: Turn, words: list[str]) -> Steps:
    """Never answers, not even a cancel."""
    while True:
        try:
            yield 1e9
        except Cancelled:
            continue


def no_read(turn: Turn, words: list[str]) -> None:
    """`[SECONDS]`: answers this prompt, then does not read stdin for so long, or for ever."""
    turn.agent.loop.deaf_until = time.monotonic() + float(words[0]) if words else FOREVER
    turn.say("deaf ")


def errors(turn: Turn, words: list[str]) -> None:
    """`N`: N lines of 100 bytes on stderr, at once."""
    count = int(words[0]) if words else 1000
    block = b"".join(b"%-98d.\n" % number for number in range(count))
    while block:
        block = block[os.write(2, block[:WRITE_BYTES]) :]
    turn.say(f"stderr {count} ")


def fork(turn: Turn, words: list[str]) -> None:
    """`[clean]`: leaves a daemon behind: own session, no parent, no descriptor; `clean`: no environment either."""
    turn.say(f"forked {daemon(words[:1] == ['clean'])} ")


def fork_many(turn: Turn, words: list[str]) -> None:
    """`N`: leaves N daemons behind."""
    pids = [str(daemon(False)) for _ in range(int(words[0]) if words else 8)]
    turn.say("forked " + " ".join(pids) + " ")


def daemon(clean: bool) -> int:
    """The pid of a process that sleeps in a session of its own, adopted by whoever reaps orphans."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            os.closerange(0, WRITE_BYTES)
            if clean:
                program = f"import time; time.sleep({DAEMON_SECONDS})"
                os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", program], {})
            time.sleep(DAEMON_SECONDS)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    pid = int(os.read(reader, 32))
    os.close(reader)
    return pid


MODES: dict[str, Mode] = {
    "crash": crash,
    "exit": leave,
    "half": half,
    "mute": mute,
    "flood": flood,
    "huge": huge,
    "dribble": dribble,
    "garbage": garbage,
    "ignore-term": ignore_term,
    "ignore-eof": ignore_eof,
    "hang": hang,
    "noread": no_read,
    "stderr": errors,
    "fork": fork,
    "forkmany": fork_many,
}
