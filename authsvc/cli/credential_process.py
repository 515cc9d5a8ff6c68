"""``authsvc credential-process``: what a profile of the AWS CLI and SDKs runs to get credentials.

The form of its output is that of "Sourcing credentials with an external process" (AWS SDKs and
Tools Reference Guide).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import CLIENT_PREFIX, Connection, client_options
from authsvc.cli.failing import Failure, Negative, Unreachable, errors_explained
from authsvc.cli.output import print_json
from authsvc.common.formats import spelled_resource
from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.times import rfc3339
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, Credentials

if TYPE_CHECKING:
    # gRPC takes a while to import.
    from authsvc.client import AuthClient

TOKEN_VARIABLE = f"{CLIENT_PREFIX}TOKEN"
"""Holds the token where no file is given."""


@click.command(
    epilog="Example: authsvc credential-process --target authsvc.internal:50051 --ca-file ca.pem "
    "--service-token-file job.token --resource https://mcp.example.com/mcp --name reports "
    "--token-file user.token"
)
@click.option("--resource", required=True, help="The MCP server's resource, whose token it is.")
@click.option("--name", default="", help="Name of the credentials; those without one otherwise.")
@click.option("--bucket", "buckets", multiple=True, help="Confine them to a bucket; repeat.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=f"{CLIENT_PREFIX}TOKEN_FILE",
    show_envvar=True,
    help=f"Holds the user's token, not open to all users. Without it: {TOKEN_VARIABLE}.",
)
@client_options
def command(
    connection: Connection,
    resource: str,
    name: str,
    buckets: tuple[str, ...],
    token_file: Path | None,
) -> None:
    """Print the AWS credentials that authsvc issues for a token, as JSON.

    It is the credential_process of a profile in ~/.aws/config. The token is never an argument,
    because other users see arguments in the process list.

    Exit code 0 with credentials on standard output; 1 if there are none for this token; 3 if
    authsvc, or what issues them, is unavailable. Each time counts as one call of the user's.
    """
    token = _token(token_file)
    try:
        wanted = CredentialRequest(name, buckets)
    except ValueError as error:
        raise Failure(f"--name, --bucket: {error}") from None
    issued = _issued(connection, token, spelled_resource(resource), wanted)
    if not isinstance(issued, AwsCredentials):
        what = f"credentials {name!r}" if name else "credentials without a name"
        if issued is None:
            raise Negative(f"the token has no {what}: `authsvc explain` shows which it has")
        raise Negative(f"the {what} are a bearer token; these programs take keys of AWS alone")
    print_json(_document(issued))


def _token(file: Path | None) -> str:
    """
    Raises:
        Failure: there is no token.
    """
    if file is None:
        if token := os.environ.get(TOKEN_VARIABLE, "").strip():
            return token
        raise Failure(f"there is no token: give --token-file, or {TOKEN_VARIABLE}")
    try:
        return read_secret_file(file, is_private=True)
    except SecretFileError as error:
        raise Failure(f"--token-file: {error}") from None


def _issued(
    connection: Connection, token: str, resource: str, wanted: CredentialRequest
) -> Credentials | None:
    """
    Raises:
        Failure: the token or the caller is rejected, the credentials are refused, or there is no
            answer.
    """

    async def ask(client: AuthClient) -> Credentials | None:
        found = await client.resolve("", token, resource=resource, credentials=(wanted,))
        return found.credentials_of(wanted.name)

    with errors_explained(connection.target, connection.tls()):
        try:
            return connection.ask(ask)
        except AuthError as error:
            if error.reason is Reason.CALLER_NOT_ALLOWED:
                raise Negative(
                    f"{error.reason.name}: this needs a caller of authsvc that has {resource} "
                    "among its resources. Give its service token or certificate: "
                    "--service-token-file, or --certificate-file with --key-file."
                ) from None
            if error.reason is Reason.CREDENTIALS_UNAVAILABLE:
                raise Unreachable(
                    f"{error.reason.name}: what issues them does not answer; authsvc's log says why"
                ) from None
            raise


def _document(issued: AwsCredentials) -> dict[str, object]:
    """Members that are not set are left out: these programs reject null."""
    found: dict[str, object] = {
        "Version": 1,
        "AccessKeyId": issued.access_key_id,
        "SecretAccessKey": issued.secret_access_key.reveal(),
    }
    if issued.session_token is not None:
        found["SessionToken"] = issued.session_token.reveal()
    if issued.expire_time:
        found["Expiration"] = rfc3339(issued.expire_time)
    return found
