"""`opagent completion bash|zsh|fish`: the shell's half of completion; the other half is click's, over the lazy table."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from opagent.cli.app import App, Settings
from opagent.cli.command import Command, pass_app
from opagent.cli.output import Output
from opagent.errors import Usage
from opagent.paths import COMPLETION_VARIABLE

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command, example='eval "$(opagent completion bash)"', exits=(0, 2), only_here=True)
@click.argument("shell", type=click.Choice(SHELLS))
@pass_app
def completion(app: App, shell: str) -> None:
    """Print the completion script for a shell."""
    found = get_completion_class(shell)
    assert found is not None
    app.out.raw(found(click.Command("opagent"), {}, "opagent", COMPLETION_VARIABLE).source() + "\n")


def answer(out: Output, root: click.Command, instruction: str) -> None:
    """What the script asks for on every Tab: the words that may follow, in click's form. Raises Usage."""
    shell = instruction.partition("_")[0]
    found = get_completion_class(shell)
    if found is None:
        raise Usage(f"no completion for '{shell}'", hint="opagent completion bash")
    complete = found(root, {"obj": Settings()}, "opagent", COMPLETION_VARIABLE)
    words, incomplete = complete.get_completion_args()
    items: list[CompletionItem] = complete.get_completions(words, incomplete)
    out.raw("".join(complete.format_completion(item) + "\n" for item in items))
