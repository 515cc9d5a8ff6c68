"""The one-line error for an extra of this package that is not installed.

Imports the standard library alone, since it runs where extras are missing.
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
    """An imported module needs an extra that is not installed. The message names both.

    Attributes:
        name: the module that cannot be imported without the extra.
        missing: the module that was not found.
    """

    def __init__(self, importer: str, extra: str, missing: str) -> None:
        # With this name ``python -m`` prints one line, too: it prints the traceback of an
        # ImportError unless its name is that of the package it was given.
        super().__init__(_message(importer, extra, missing), name=importer)
        self.missing = missing


def need(importer: str, extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Args:
        importer: the module that needs the extra.
        extra: its name.
        modules: top-level modules that the extra installs.

    Raises:
        MissingExtraError: a module is missing.
    """
    for module in modules:
        if module not in sys.modules and find_spec(module) is None:
            raise MissingExtraError(importer, extra, module)


@contextmanager
def program(name: str, extra: str) -> Iterator[None]:
    """Around a command line: if its extra is missing, print one line and exit with 2.

    Args:
        name: program and command as the user wrote them.
        extra: the extra that the command needs.
    """
    try:
        yield
    except MissingExtraError as error:
        missing = error.missing
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _OURS:
            raise  # a bug, and no missing extra
    else:
        return
    print(_message(name, extra, missing), file=sys.stderr)  # noqa: T201 - no click
    sys.exit(_EXIT_CODE)


def _message(what: str, extra: str, missing: str) -> str:
    # No command to paste: the name may be somebody else's on a package index.
    return (
        f'{what} needs the extra "{extra}" ({missing} is missing): '
        f"install the checkout or the wheel of authsvc with [{extra}]"
    )
