"""Session ids as arguments, also those that begin with ``-``: one random id in 64 does."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

_LIKE_AN_OPTION = re.compile(r"-[a-zA-Z]|--[a-z][a-z-]*(=.*)?", re.DOTALL)


class SessionIdCommand(click.Command):
    """A command whose argument is a session id, which it takes for no option.

    What may be a misspelt option is left to click, which rejects it: ``--`` before an id says that
    it is one.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with ids that begin with ``-`` behind ``--``."""
        options, ids = _separated(args, self.get_params(ctx))
        try:
            return super().parse_args(ctx, [*options, "--", *ids] if ids else options)
        except click.NoSuchOption as error:
            raise click.NoSuchOption(
                error.option_name,
                f"{error.message} (Put -- before a session id that begins with -.)",
                error.possibilities,
                error.ctx,
            ) from None


def _separated(
    args: Sequence[str], parameters: Sequence[click.Parameter]
) -> tuple[list[str], list[str]]:
    """The arguments without the ids that begin with ``-``, and these with all that follows
    ``--``."""
    options = {
        name: parameter
        for parameter in parameters
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    kept: list[str] = []
    ids: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--":
            ids += remaining
        elif arg in options:
            kept.append(arg)
            if not options[arg].is_flag:
                kept += [value for value in (next(remaining, None),) if value is not None]
        elif _is_id(arg, options):
            ids.append(arg)
        else:
            kept.append(arg)
    return kept, ids


def _is_id(arg: str, options: dict[str, click.Option]) -> bool:
    """Whether what is no option, and begins with ``-``, is an id and no misspelt option."""
    return (
        len(arg) > 1
        and arg.startswith("-")
        and _LIKE_AN_OPTION.fullmatch(arg) is None
        # As -yes for --yes: click rejects it, and says which is meant.
        and f"-{arg}".partition("=")[0] not in options
    )
