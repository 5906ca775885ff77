"""Where the model is and what it costs, from the environment; it connects to nothing."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from assistant.chatapi import ChatApi
from assistant.messagesapi import MessagesApi
from assistant.talk import Api, Usage

CONTEXT = 128_000  # tokens, where nobody says another size
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
NO_MODEL = """No model is configured, so I cannot answer. Choose one:

- **a vendor or a router** (OpenAI, OpenRouter and others): `export OPENAI_API_KEY=... OPENAI_MODEL=...`, and
  `OPENAI_BASE_URL=...` unless it is OpenAI itself
- **Anthropic**: `export ANTHROPIC_API_KEY=... ANTHROPIC_MODEL=...`
- **your own machine** (Ollama, llama.cpp, vLLM): `export OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=...`, and in your
  own `config.yaml` `can: {network: {allow: ["127.0.0.1:11434"]}}`

`model:` of the role in `.agent.yaml` names the model, too. Then `opagent restart` this agent, or open the directory again.

Without any model the agent `librarian` answers from the files of this directory: `opagent init` in a directory, or
`agent: librarian` in its `.agent.yaml`.
"""


class NoModel(Exception):
    """The sentence says what is missing."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens."""

    input: float
    output: float
    cached: float
    currency: str

    def of(self, usage: Usage) -> float:
        fresh = max(0, usage.input - usage.cached)
        return (fresh * self.input + usage.cached * self.cached + usage.output * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is where requests go; `model` is the name as the endpoint knows it."""

    api: Api
    url: str
    key: str
    model: str
    context: int
    price: Price | None


def find(environment: Mapping[str, str], wanted: str) -> Endpoint:
    """`wanted`: the model that the role or the session names, or "". Raises NoModel."""
    chat = bool(environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"))
    anthropic = bool(environment.get("ANTHROPIC_API_KEY") or environment.get("ANTHROPIC_BASE_URL"))
    if anthropic and (not chat or wanted.startswith("anthropic/") or (not wanted and not environment.get("OPENAI_MODEL"))):
        model = (wanted or environment.get("ANTHROPIC_MODEL", "")).removeprefix("anthropic/")
        base = environment.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        found: tuple[Api, str, str] = MessagesApi(), base.rstrip("/").removesuffix("/v1"), "ANTHROPIC_API_KEY"
    elif chat:
        model = wanted or environment.get("OPENAI_MODEL", "")
        found = ChatApi(), (environment.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/"), "OPENAI_API_KEY"
    else:
        raise NoModel(NO_MODEL)
    if not model:
        raise NoModel("There is an address or a key, but no name of a model.\n\n" + NO_MODEL)
    api, base, key = found
    context = environment.get("ASSISTANT_CONTEXT", "")
    size = int(context) if context.isdigit() and int(context) >= 2000 else CONTEXT
    return Endpoint(api, base + api.path, environment.get(key, ""), model, size, price(environment, model))


def price(environment: Mapping[str, str], model: str) -> Price | None:
    """ASSISTANT_PRICES: {"MODEL": {"input": 3, "output": 15, "cached": 0.3, "currency": "USD"}}; "*" stands for every other one.

    What cannot be read is no price: a cost that is wrong is worse than none.
    """
    try:
        known = json.loads(environment.get("ASSISTANT_PRICES") or "{}")
        said = known.get(model) or known["*"]
        numbers = [float(said["input"]), float(said["output"]), float(said.get("cached", said["input"]))]
        currency = str(said.get("currency", "USD"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    usable = all(math.isfinite(each) and each >= 0 for each in numbers)
    return Price(numbers[0], numbers[1], numbers[2], currency) if usable else None


def for_children() -> dict[str, str]:
    """Our environment without the keys: no command and no server needs them."""
    return {name: value for name, value in os.environ.items() if name not in KEYS}
