"""TLS handshakes without a network."""

from __future__ import annotations

import ssl
from pathlib import Path


def handshake(
    ca_file: Path,
    server: tuple[Path, Path],
    client: tuple[Path, Path] | None = None,
    *,
    server_name: str = "localhost",
) -> None:
    """In memory, both ends strict on every Python.

    Args:
        ca_file: the authority that both ends trust.
        server: certificate and key.
        client: the same, where the server asks for them.
        server_name: whom the client wants to speak to.

    Raises:
        ssl.SSLCertVerificationError: the other end's certificate is rejected.
    """
    ours = ssl.create_default_context(cafile=ca_file)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
    for context in (ours, theirs):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    theirs.load_cert_chain(*server)
    if client is not None:
        theirs.verify_mode = ssl.CERT_REQUIRED
        ours.load_cert_chain(*client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        ours.wrap_bio(to_client, to_server, server_hostname=server_name),
        theirs.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() is not None
