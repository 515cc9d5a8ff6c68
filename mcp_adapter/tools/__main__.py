"""``python -m mcp_adapter.tools [PACKAGE…]``: the reference of the tools, as Markdown."""

from authsvc.common import extras

if __name__ == "__main__":
    with extras.program("python -m mcp_adapter.tools", "adapter"):
        from mcp_adapter.tools.cli import main

        main()
