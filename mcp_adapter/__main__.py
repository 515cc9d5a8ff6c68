"""``python -m mcp_adapter``."""

from mcp_adapter.cli import main

if __name__ == "__main__":
    main()
