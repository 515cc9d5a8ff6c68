"""``python -m authsvc.console``."""

from authsvc.console.cli import main

if __name__ == "__main__":
    main()
