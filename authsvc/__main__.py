"""``python -m authsvc``."""

from authsvc.cli import main

if __name__ == "__main__":
    main()
