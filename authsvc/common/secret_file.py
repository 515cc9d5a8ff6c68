"""Secrets in files: passwords, client secrets, keys of AWS. Each is read when it is needed."""

from __future__ import annotations

from pathlib import Path

from authsvc.common.file_faults import file_fault


class SecretFileError(ValueError):
    """A file holds no secret; the message names the file and shows nothing of its content.

    Attributes:
        setting: the setting of the file, where it is another one than that of the secret itself.
    """

    def __init__(self, detail: str, *, setting: str = "") -> None:
        super().__init__(detail)
        self.setting = setting


def read_secret_file(path: Path) -> str:
    """The text of a file, without white space around it.

    Raises:
        SecretFileError: it cannot be read, is empty, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretFileError(file_fault(path, error)) from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{path}: not text") from None
    if not text:
        raise SecretFileError(f"{path} is empty")
    return text
