"""A package index on the disk, of wheels that hold next to nothing."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path


class Index:
    """What pip takes as ``--index-url``."""

    def __init__(self, folder: Path) -> None:
        """Start an empty one in ``folder``."""
        self._folder = folder
        self.url = folder.as_uri()
        folder.mkdir(parents=True)

    def add(
        self, name: str, version: str, *, requires: Iterable[str] = (), files: Iterable[str] = ()
    ) -> str:
        """Add a wheel.

        Args:
            name: of the package; each has an extra ``all``.
            version: of the release.
            requires: what it requires.
            files: modules that it holds.

        Returns:
            Its SHA-256, in hexadecimal digits.
        """
        content = wheel(name, version, requires, files)
        folder = self._folder / name.lower().replace("_", "-").replace(".", "-")
        folder.mkdir(exist_ok=True)
        file = f"{_escaped(name)}-{version}-py3-none-any.whl"
        (folder / file).write_bytes(content)
        links = [f'<a href="{it.name}">{it.name}</a><br>' for it in sorted(folder.glob("*.whl"))]
        (folder / "index.html").write_text("<!DOCTYPE html>" + "\n".join(links))
        return hashlib.sha256(content).hexdigest()


def wheel(name: str, version: str, requires: Iterable[str], files: Iterable[str]) -> bytes:
    """A wheel of one release."""
    info = f"{_escaped(name)}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += ["Provides-Extra: all", *(f"Requires-Dist: {it}" for it in requires)]
    content = dict.fromkeys(files, "")
    content[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*content, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, text in content.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return buffer.getvalue()


def _escaped(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
