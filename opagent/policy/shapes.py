"""How well-known kinds of secrets look, as a table; searches nothing itself (`patterns.py` and `redact.py` do).

`lead`, `secret`, `after` and each of `more` are rows of characters and sets with counts, as in `[a-z]{20}-x`: regular expressions
without groups or alternatives, and longest where they are decided. So it can be derived how a match begins that is not complete.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A match is one of `starts`, then `lead`, `secret`, and `after` follows; of it the start and the secret are hidden."""

    name: str
    starts: tuple[str, ...]
    secret: str = ""
    mark: str = ""  # a character of every start that is rare in text: a text without it is passed over at memory speed
    more: tuple[str, ...] = ()  # what may go on after the match, any of them any number of times, is hidden too
    shown: bool = False  # the start and the lead stay
    lead: str = ""
    after: str = ""
    guard: str = ""  # a look at the secret before it counts; no further than `secret` reaches at least
    word: bool = True  # no letter or digit stands directly before it


_TOKEN = ("[A-Za-z0-9_-]",)
_SENTENCE = ("[A-Za-z0-9_~+/=-]", r"\.{1,2}[A-Za-z0-9_~+/=-]")  # a full stop belongs to it only inside
_KEY = r"[A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,6}-----[\s\\]{1,8}"  # line ends may be written `\n`: the n is one of base64's letters
_ENCRYPTED = r"n{0,1}Proc-Type: 4,ENCRYPTED[\s\\]{1,8}n{0,1}DEK-Info: [A-Z0-9-]{3,20},[A-F0-9]{16}"
_REMARK = r"[A-Za-z-]{7,9}: [ -\[\]-~]{1,80}[\n\\]"  # Version, Comment
_KEY_GOES_ON = (
    "[A-Za-z0-9+/=]",
    r"[\s\\]{1,8}[A-Za-z0-9+/=]{16}",
    r"[\s\\]{0,8}[A-Za-z0-9+/=]{0,15}[\s\\]{0,8}[nr]{0,1}-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,6}-----",
)
_HEADER = r"""["'\\]{0,2} {0,2}[:=] {0,2}["'\\]{0,2}"""
_USER = "A-Za-z0-9._~!$&*+,;=%-"

SHAPES = (
    Shape("private key", ("-----BEGIN ",), _KEY + "[A-Za-z0-9+/]{16}", "B", _KEY_GOES_ON, word=False),
    Shape("private key", ("-----BEGIN ",), _KEY + _ENCRYPTED, "B", _KEY_GOES_ON, word=False),
    Shape("private key", ("-----BEGIN ",), _KEY + _REMARK, "B", _KEY_GOES_ON, word=False),
    Shape("api key", ("sk-",), "[A-Za-z0-9]{20}", "-", _TOKEN),
    Shape("api key", ("sk-ant-", "sk-proj-", "sk-or-", "sk-svcacct-", "sk-admin-"), "[A-Za-z0-9_-]{16}", "-", _TOKEN),
    Shape("api key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "gsk_"), "[A-Za-z0-9]{16}", "_", _TOKEN),
    Shape("api key", ("AIza",), "[A-Za-z0-9_-]{35}", "I", _TOKEN),
    Shape("github token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "[A-Za-z0-9]{20}", "_", _TOKEN),
    Shape("github token", ("github_pat_",), "[A-Za-z0-9_]{22}", "_", _TOKEN),
    Shape("gitlab token", ("glpat-", "gldt-", "glrt-", "glcbt-"), "[A-Za-z0-9_-]{20}", "-", _TOKEN),
    Shape("aws key", ("AKIA", "ASIA"), "[A-Z0-9]{16}", "I", ("[A-Z0-9]",)),
    Shape("aws secret key", ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"), "[A-Za-z0-9/+]{40}", "_",
          shown=True, lead=_HEADER),
    Shape("slack token", ("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), "[A-Za-z0-9-]{10}", "-", _TOKEN),
    Shape("npm token", ("npm_",), "[A-Za-z0-9]{36}", "_", _TOKEN),
    Shape("pypi token", ("pypi-",), "[A-Za-z0-9_-]{50}", "-", _TOKEN),
    Shape("hugging face token", ("hf_",), "[A-Za-z0-9]{30}", "_", _TOKEN),
    Shape("age key", ("AGE-SECRET-KEY-1",), "[A-Z0-9]{20}", "-", ("[A-Z0-9]",)),
    Shape("oauth secret", ("GOCSPX-",), "[A-Za-z0-9_-]{20}", "-", _TOKEN),
    Shape("web token", ("eyJ",), r"[A-Za-z0-9_-]{10,150}\.eyJ[A-Za-z0-9_-]{10}", "J", _SENTENCE),
    Shape("web token", ("eyJhbGciOi", "eyJ0eXAiOi", "eyJraWQiOi"), "[A-Za-z0-9_-]{10}", "J", _SENTENCE),
    Shape("authorization", ("Authorization", "authorization"), "[A-Za-z0-9_~+/=-]{8}", "z", _SENTENCE,
          shown=True, lead=_HEADER + "[Bb]earer {1,2}"),
    Shape("authorization", ("Authorization", "authorization"), "[A-Za-z0-9+/=]{8}", "z", ("[A-Za-z0-9+/=]",),
          shown=True, lead=_HEADER + "[Bb]asic {1,2}"),
    Shape("authorization", ("Bearer ",), "[A-Za-z0-9._~+/=-]{16}", "B", _SENTENCE,
          shown=True, guard="(?=[A-Za-z._~+/=-]{0,15}[0-9])"),
    Shape("password in an address", ("://",), f"[{_USER}]{{0,64}}:[:{_USER}]{{1,120}}", "/", after="@", shown=True, word=False),
)  # fmt: skip
