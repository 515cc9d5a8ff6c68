"""The command line: one module a command, imported only when it is called."""

from __future__ import annotations

import importlib

import click

from authsvc import __version__
from authsvc.common.process import Program

COMMANDS = {
    "serve": ("authsvc.cli.serve", "Serve AuthService over gRPC."),
    "check-config": ("authsvc.cli.check_config", "Check a configuration without serving."),
    "doctor": ("authsvc.cli.doctor", "Diagnose faults from the adapter to the store."),
    "explain": ("authsvc.cli.explain", "Explain why a token would be accepted or rejected."),
    "health": ("authsvc.cli.health", "Check the health of a server; for probes."),
    "keys": ("authsvc.cli.keys", "Show the keys that tokens are verified with."),
    "assertions": ("authsvc.cli.assertions", "Replace the keys that sign assertions."),
    "sessions": ("authsvc.cli.sessions", "List, show, revoke and watch sessions."),
    "signals": ("authsvc.cli.signals", "Show and test the streams of identity providers."),
    "console": ("authsvc.cli.console", "Serve the operator's web console."),
    "credential-process": (
        "authsvc.cli.credential_process",
        "Print a token's AWS credentials for the AWS CLI and SDKs.",
    ),
    "token": ("authsvc.cli.token", "Print a development token."),
    "dev-certificates": ("authsvc.cli.certificates", "Write certificates for development."),
    "completion": ("authsvc.cli.completion", "Print a shell completion script."),
}
"""Each command's module, which has it as ``command``, and its one-line description."""


class LazyGroup(Program):
    """A group whose help and completion import none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, the most used first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported here."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = importlib.import_module(module).command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, which looks for close matches among commands that were added."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.exceptions.NoSuchCommand(name, possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`authsvc COMMAND --help` shows examples. Exit codes: 0 yes or done, 1 no, 2 wrong "
    "usage or configuration, 3 authsvc unreachable.",
)
@click.version_option(__version__, prog_name="authsvc")
def main() -> None:
    """Session-aware authentication for MCP servers."""
