"""``authsvc completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_COMPLETED_BY = "_AUTHSVC_COMPLETE"
"""The variable by which the script requests completions; click derives its name."""


@click.command(
    epilog="Examples: `source <(authsvc completion bash)` in ~/.bashrc, the same with zsh in "
    "~/.zshrc, `authsvc completion fish | source` in ~/.config/fish/config.fish."
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and options in a shell."""
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"{shell} is not known")
    click.echo(completion(ctx.find_root().command, {}, "authsvc", _COMPLETED_BY).source())
