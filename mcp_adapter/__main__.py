"""``python -m mcp_adapter`` and ``mcp-adapter``. Where the extra is missing, even click may be."""

import sys

from authsvc.common import extras


def main() -> None:
    """Run the command line."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    with extras.program(f"mcp-adapter {command}".strip(), "adapter"):
        from mcp_adapter.server.cli import main as cli

        cli()


if __name__ == "__main__":
    main()
