"""``python -m authsvc.console``."""

from authsvc.common import extras

if __name__ == "__main__":
    with extras.program("python -m authsvc.console", "console"):
        from authsvc.console.cli import main

        main()
