"""The grammar of patterns: does one rule of `can` match one request? Decides nothing; pure.

A pattern of a stranger must not make matching slow: globs become regular expressions whose every star but the last is
atomic, so a match costs at most length squared (the trick of CPython's own `fnmatch.translate`).
"""

from __future__ import annotations

import functools
import ipaddress
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from opagent.model import Effect, Layer
from opagent.policy.address import public

KINDS = ("read", "write", "exec", "network", "agents", "mcp", "secrets")
PATHS = ("read", "write")
MAX_ALTERNATIVES = 64
SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")

# A program that runs what its arguments say never matches an allow: the rule's reader saw another program.
# Value: the arguments that make it one; None: always.
_ALWAYS = """
    sh bash dash zsh fish ksh csh tcsh busybox pwsh nu eval exec command
    env xargs sudo su doas pkexec runuser setpriv chroot unshare nsenter bwrap firejail
    nohup nice ionice time timeout setsid stdbuf script watch strace ltrace gdb ssh parallel flock systemd-run at batch
    npx uvx pipx awk gawk mawk vim vi nvim emacs ed expect
"""
LAUNCHERS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(_ALWAYS.split()),
    "find": ("-exec", "-execdir", "-ok", "-okdir"),
    "fd": ("-x", "-X", "--exec", "--exec-batch"),
    "python": ("-c", "-m", "-"),
    "perl": ("-e", "-E", "-"),
    "ruby": ("-e", "-"),
    "php": ("-r", "-"),
    "lua": ("-e", "-"),
    "node": ("-e", "--eval", "-p", "--print", "-r", "--require", "--import", "-"),
    "deno": ("eval", "run", "task"),
    "bun": ("x", "run", "-e"),
    "npm": ("run", "run-script", "exec", "x", "start", "test"),
    "yarn": ("run", "exec", "dlx"),
    "pnpm": ("run", "exec", "dlx"),
    "uv": ("run", "tool"),
    "poetry": ("run",),
    "git": ("-c", "--exec-path", "--config-env", "--upload-pack", "--receive-pack", "--open-files-in-pager", "-O"),
    "tar": (
        "--to-command",
        "--checkpoint-action",
        "--use-compress-program",
        "-I",
        "--info-script",
        "--new-volume-script",
        "-F",
        "--rsh-command",
        "--rmt-command",
    ),
    "rsync": ("-e", "--rsh", "--rsync-path"),
    "sort": ("--compress-program",),
    "zip": ("-T", "-TT", "--unzip-command"),
    "scp": ("-S", "-o"),
    "docker": ("run", "exec"),
    "podman": ("run", "exec"),
}


def matches(kind: str, pattern: Any, request: Any, base: str, fold: bool = False, effect: Effect = Effect.DENY) -> bool:
    """Whether one pattern (without its `!`) matches; `effect` matters for exec only: an allow wants the program's real name."""
    if kind == "exec":
        return _command(pattern, request, effect)
    if kind in PATHS:
        return _path(pattern, request, base, fold)
    if kind == "network":
        return _host(pattern, request)
    if kind == "agents":
        return any(_agent(pattern, each, base) for each in ([request] if isinstance(request, str) else request))
    if kind == "mcp":
        return glob(pattern, False).fullmatch(request) is not None
    return bool(pattern == request)


@functools.lru_cache(8192)
def glob(pattern: str, fold: bool) -> re.Pattern[str]:
    """`*` no slash, `**` any depth, `?` one character, `{a,b}`; a trailing slash means the directory and all below."""
    pattern = normal(pattern, fold)
    if pattern.endswith("/"):
        pattern += "**"
    return re.compile("|".join(_one(each) for each in alternatives(pattern)), re.DOTALL)


def alternatives(pattern: str) -> list[str]:
    """The pattern for each choice of its braces, which do not nest. Raises ValueError above 64 of them."""
    found = [""]
    for part in re.split(r"(\{[^{}]*\})", pattern):
        choices = part[1:-1].split(",") if part.startswith("{") and part.endswith("}") else [part]
        found = [before + choice for before in found for choice in choices]
        if len(found) > MAX_ALTERNATIVES:
            raise ValueError(f"more than {MAX_ALTERNATIVES} alternatives")
    return found


def count(layer: Layer) -> int:
    """How many patterns a layer holds."""
    return sum(len(each.allow) + len(each.ask) + len(each.deny) for each in layer.kinds.values())


def weight(layer: Layer) -> int:
    """How many characters of glob a layer makes us compile, braces written out: about 2 us each."""
    globbed = [each for kind, each in layer.kinds.items() if kind in (*PATHS, "agents", "mcp")]
    patterns = [pattern for each in globbed for pattern in (*each.allow, *each.ask, *each.deny)]
    return sum(len(choice) for pattern in patterns for choice in alternatives(pattern))


def normal(text: str, fold: bool) -> str:
    """One form for names that look alike: NFC, and folded where the file system does not tell cases apart."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    return text.casefold() if fold else text


def _one(pattern: str) -> str:
    """A glob without braces. Runs of segments between `**` are matched at their first place, atomically."""
    runs: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(segment)
    texts = ["/".join(map(_segment, run)) for run in runs]
    if len(texts) == 1:
        return texts[0]
    first, *middle, last = texts
    middle = [text for text in middle if text]
    start = f"{first}/" if first else ""
    if last:
        return start + "".join(f"(?>(?:[^/]+/)*?{text}/)" for text in middle) + f"(?:[^/]+/)*{last}"
    if not middle:  # a/**: the directory itself and all below
        return f"{first}(?:/.*)?" if first else ".*"
    *middle, end = middle
    return start + "".join(f"(?>(?:[^/]+/)*?{text}/)" for text in middle) + rf"(?>(?:[^/]+/)*?{end}(?=/|\Z))(?:/.*)?"


def _segment(segment: str) -> str:
    """One name: all stars but the last are atomic; two stars inside a name are one."""
    parts = [re.escape(part).replace(r"\?", "[^/]") for part in re.split(r"\*+", segment)]
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    return first + "".join(f"(?>[^/]*?{part})" for part in middle) + f"[^/]*{last}"


def _path(pattern: str, path: str, base: str, fold: bool) -> bool:
    if pattern.startswith("/"):  # only in the user's own and the machine's files
        return glob(pattern[1:], fold).fullmatch(normal(path[1:], fold)) is not None
    below = relative(path, base)
    return below is not None and glob(pattern, fold).fullmatch(normal(below, fold)) is not None


def relative(path: str, base: str) -> str | None:
    """`path` as seen from `base` ("" for base itself), None when it lies elsewhere. Both absolute and normalised."""
    if path == base:
        return ""
    start = base if base.endswith("/") else base + "/"
    return path[len(start) :] if path.startswith(start) else None


def seen_from(pattern: str, base: str, below: str) -> str | None:
    """A path pattern of a file in `base` as it would stand in one in `below`, a directory beneath; None: no match there."""
    negated, pattern = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if pattern.startswith("/"):
        base, pattern = "/", pattern[1:]
    way = relative(below, base)
    if way is None:
        return None
    rest = pattern.split("/")
    for name in way.split("/") if way else ():
        if rest[0] == "**":
            return negated + "/".join(rest)
        if not rest[0] or not glob(rest[0], False).fullmatch(name):
            return None
        rest.pop(0)
        if not rest or rest == [""]:
            return negated + "**" if rest else None  # the directory itself: all below only with a trailing slash
    return negated + "/".join(rest)


def _command(pattern: Sequence[Any], words: Sequence[str], effect: Effect) -> bool:
    if len(pattern) > len(words) or not words:
        return False
    first, *rest = pattern
    names = first if isinstance(first, tuple) else (first,)
    if not set(names) & _program_names(words[0], effect):
        return False
    return all(word == want or (isinstance(want, tuple) and word in want) for want, word in zip(rest, words[1:], strict=False))


def _program_names(word: str, effect: Effect) -> set[str]:
    """A program's word, and its base name: for an allow in system directories only; an ask or deny is not dodged by a path."""
    directory, _, name = word.rpartition("/")
    return {word, name} if effect is not Effect.ALLOW or directory in SYSTEM_DIRECTORIES else {word}


def launches(words: Sequence[str]) -> bool:
    """Whether a command is a shell or runs other programs named by its arguments."""
    if not words:
        return False
    name = re.sub(r"[0-9.]+$", "", words[0].rpartition("/")[2])
    if name not in LAUNCHERS:
        return False
    marks = LAUNCHERS[name]
    return marks is None or any(_marked(word, mark) for word in words[1:] for mark in marks)


_MACHINE = re.compile(r"ssh://|[^/.~!][^/]*:")
_URL = re.compile(r"ssh://(?P<host>[^/:\[\]]*|[^/\[\]]*\[[^/\]]*\])(?P<path>/.*)", re.DOTALL)  # without a port: as HOST:DIR
_CUT = 3  # characters: `--e` may be anything


def _marked(word: str, mark: str) -> bool:
    """`-c`, `-cprint()`, `-Ic` and `--eval=...` carry their mark, and `--to-com`: getopt takes one that is cut short."""
    if mark.startswith("--"):
        head = word.partition("=")[0]
        return len(head) > _CUT and mark.startswith(head)
    if mark.startswith("-") and len(mark) == 2:
        return word.startswith("-") and not word.startswith("--") and mark[1] in word
    return word == mark


def split_host(text: str) -> tuple[str, str]:
    """`host[:port]` -> (host in lower case without a final dot, port or `*`); the port is 443 when nothing is said."""
    if not text.isascii():  # a resolver maps these to the digits and the dot of an address
        text = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    text = text.strip().lower()
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":") or "443"
    if text.count(":") > 1:
        return text, "443"
    host, _, port = text.partition(":")
    return host.removesuffix("."), port or "443"


def _host(pattern: str, request: str) -> bool:
    (want, want_port), (host, port) = split_host(pattern), split_host(request)
    if want_port not in ("*", port):
        return False
    if want.startswith("*."):
        return host.endswith(want[1:]) and len(host) > len(want) - 1
    return want in ("*", host)


def is_private(request: str) -> bool:
    """Loopback, private, link-local (with the metadata address) and names that can only mean those; doubtful numbers too."""
    host = split_host(request)[0].partition("%")[0]
    if host in ("localhost", "") or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not public(ipaddress.ip_address(host))
    except ValueError:  # 127.1, 0x7f000001, 2130706433: an address to some resolvers
        return re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*", host) is not None


def _agent(pattern: str, request: str, base: str) -> bool:
    """A directory (with a slash or a leading dot) is compared as an absolute path, a role by its name, and one of another
    machine as the words that say so: no rule about directories and roles of here speaks of it.
    """
    if is_elsewhere(pattern) or is_elsewhere(request):
        found = _URL.fullmatch(pattern)
        form = f"{found['host']}:{found['path'].removeprefix('/~/')}" if found else pattern
        return is_elsewhere(pattern) and is_elsewhere(request) and glob(form, False).fullmatch(request) is not None
    if is_directory(pattern):
        whole = posixpath.normpath(posixpath.join(base, pattern)) + ("/" if pattern.endswith("/") else "")
        return request.startswith("/") and glob(whole[1:], False).fullmatch(posixpath.normpath(request)[1:]) is not None
    return not request.startswith("/") and glob(pattern, False).fullmatch(request) is not None


def is_elsewhere(word: str) -> bool:
    """Whether a rule or a request of `agents` names a directory of another machine: `HOST:DIR` or `ssh://HOST/DIR`."""
    return _MACHINE.match(word) is not None


def is_directory(pattern: str) -> bool:
    """Whether a rule of `agents` names a directory rather than a role."""
    return "/" in pattern or pattern.startswith(".")


def form_problems(layer: Layer, own: bool) -> Iterator[tuple[str, str, str]]:
    """(kind, place such as `deny.0`, sentence) for each rule that can never match; `own`: of the user's or machine's file."""
    for kind, rules in layer.kinds.items():
        for effect in Effect:
            for index, pattern in enumerate(getattr(rules, effect.word)):
                if sentence := _form_problem(kind, pattern, own):
                    yield kind, f"{effect.word}.{index}", sentence
                elif effect is Effect.ALLOW and pattern in rules.deny:
                    yield kind, f"{effect.word}.{index}", "can never match: the same pattern stands in deny"


def _form_problem(kind: str, pattern: Any, own: bool) -> str | None:
    if kind in ("exec", "secrets"):
        return None
    text = pattern.removeprefix("!")
    if not text.strip():
        return "can never match: it is empty"
    try:
        choices = alternatives(text)
    except ValueError as error:
        return str(error)
    if kind in PATHS:
        return next((said for each in choices if (said := _glob_problem(each, own and text.startswith("/")))), None)
    if kind == "network" and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|(\*\.)?[A-Za-z0-9_.-]+|\*)(:([0-9]{1,5}|\*))?", text):
        return "can never match: expected host or host:port, for example api.example.com or *.example.com:8443"
    if kind == "mcp" and text.count("/") != 1:
        return "can never match: expected server/tool"
    return None


def _glob_problem(text: str, absolute_too: bool) -> str | None:
    if ".." in text.split("/"):
        return "leaves the directory of this file"
    if text.startswith(("/", "~")) and not absolute_too:
        return "leaves the workspace: globs are relative to the directory of this file"
    if any(part in ("", ".") for part in text.removeprefix("/").removesuffix("/").split("/")):
        return "can never match: it holds an empty or a . part"
    return None


def absolute(path: str, base: str) -> str:
    """A path of a file, made absolute and normalised."""
    return posixpath.normpath(posixpath.join(base, path))
