"""``python -m authsvc`` and ``authsvc``. Where an extra is missing, even click may be."""

import sys

from authsvc.common import extras

_EXTRAS = {"console": "console"}
"""The extras of commands; the others need ``server``."""


def main() -> None:
    """Run the command line."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    with extras.program(f"authsvc {command}".strip(), _EXTRAS.get(command, "server")):
        from authsvc.cli import main as cli

        cli()


if __name__ == "__main__":
    main()
