"""Documents: small named contents that all replicas agree on, written under compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self

MAX_DOCUMENT_BYTES = 65_536
"""Largest content of a document."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is stored.

    Attributes:
        revision: 1 when created, one more with each write.
        content: opaque to the store. It may be secret: no repr shows it.
    """

    revision: int
    content: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.content) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"a document has {MAX_DOCUMENT_BYTES} bytes at most")

    @classmethod
    def after(cls, stored: Document | None, content: bytes) -> Self:
        """The successor of what is stored; the first revision where nothing is."""
        return cls(stored.revision + 1 if stored else 1, content)


class DocumentStore(Protocol):
    """Keeps documents by name. A document does not expire, and writes to it are not logged."""

    async def document(self, name: str) -> Document | None:
        """The document as last written; None if there is none.

        Args:
            name: of the document: letters, digits, ``_``, ``-`` and ``.``.
        """
        ...

    async def confirm_document(self, name: str) -> None:
        """Return once a document that was read is as durable as one that ``put_document`` has
        written; see ``SessionStore.confirm``."""
        ...

    async def put_document(self, name: str, document: Document) -> bool:
        """Write ``document`` if what is stored is its predecessor. Durable, as ``put``.

        The predecessor of revision 1 is no document, and that of revision n is revision n - 1.

        Returns:
            Whether it was written; False when another write came first.
        """
        ...
