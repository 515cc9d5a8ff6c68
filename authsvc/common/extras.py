"""What is missing where an extra of this package is not installed, in one line.

Nothing here is imported from outside of the standard library: it runs where only a part is
installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_OURS = ("authsvc", "mcp_adapter")
_EXIT_CODE = 2
"""Wrong usage or configuration."""


class MissingExtraError(ImportError):
    """What was imported needs an extra that is not installed. The message names both.

    Attributes:
        name: the module that cannot be imported without the extra.
        missing: the module that was not found.
    """

    def __init__(self, importer: str, extra: str, missing: str) -> None:
        # With this name ``python -m`` ends in a line, too: it takes an ImportError of the package
        # that it was given for an answer, and any other for a defect.
        super().__init__(_message(importer, extra, missing), name=importer)
        self.missing = missing


def need(importer: str, extra: str, *modules: str) -> None:
    """Check that what an extra brings can be imported. It is looked for, not imported.

    Args:
        importer: the module that needs it.
        extra: its name.
        modules: what it brings.

    Raises:
        MissingExtraError: a module is missing.
    """
    for module in modules:
        if module not in sys.modules and find_spec(module) is None:
            raise MissingExtraError(importer, extra, module)


@contextmanager
def program(name: str, extra: str) -> Iterator[None]:
    """Run a command line in here: where its extra is missing, say so in one line and exit with 2.

    Args:
        name: the program's and the command's, as the user wrote them.
        extra: what it needs.
    """
    try:
        yield
    except MissingExtraError as error:
        missing = error.missing
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _OURS:
            raise  # a defect of ours
    else:
        return
    print(_message(name, extra, missing), file=sys.stderr)  # noqa: T201 - no click
    sys.exit(_EXIT_CODE)


def _message(what: str, extra: str, missing: str) -> str:
    return f'{what} needs: pip install "authsvc[{extra}]" ({missing} is missing)'
