"""From settings to endpoints where authsvc is a client of an authorization server."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from authsvc.common.client_authentication import (
    AssertionFile,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    ExpiredAssertionError,
    NamedClient,
    PrivateKeyJwt,
)
from authsvc.common.client_certificate import ClientCertificate
from authsvc.common.config_faults import ConfigFaults
from authsvc.common.oauth_endpoint import OAuthEndpoint
from authsvc.common.secret_file import SecretFileError
from authsvc.common.settings import ConfigError
from authsvc.common.times import relative
from authsvc.net.client_identity import (
    CERTIFICATE_SETTING,
    KEY_SETTING,
    ClientIdentity,
    ClientIdentityError,
    read_identity_file,
)
from authsvc.net.fetching import Fetcher
from authsvc.net.trust import Trust
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.egress import proxy_of, trust_of

log = logging.getLogger(__name__)


def endpoint_of(table: EndpointSettings, where: str) -> OAuthEndpoint:
    """An endpoint as configured.

    An assertion or certificate that has expired is logged and is no error: what keeps the file may
    renew it while authsvc runs.

    Args:
        table: the settings.
        where: the table's name, for errors.

    Raises:
        ConfigError: the secret, the key or other files cannot be used: one line for each.
    """
    authentication, now, faults = authentication_of(table, where), time.time(), ConfigFaults()
    with faults.gathered():
        _check(authentication, table, where, now)
    trust = identity = None
    with faults.gathered():
        trust = trust_of(table, where)
    with faults.gathered():
        identity = identity_of(table, where, trust)
    faults.check()
    if identity is not None and (ends := identity.expires) <= now:
        log.warning("%s: the certificate expired %s", authentication.setting, relative(ends, now))
    fetcher = Fetcher(table.allow_private_addresses, trust, proxy_of(table), identity=identity)
    return OAuthEndpoint(table.endpoint, authentication, fetcher)


def _check(
    authentication: ClientAuthentication, table: EndpointSettings, where: str, now: float
) -> None:
    """
    Raises:
        ConfigError: its files cannot be used: one line for each.
    """
    faults = ConfigFaults()
    try:
        authentication.parameters(table.endpoint, now)
    except ExpiredAssertionError as error:
        log.warning("%s: %s", authentication.setting, error)
    except SecretFileError as error:
        faults.add(f"{error.setting or authentication.setting}: {error}")
    # If the key cannot be used, its certificate has not been read.
    if (certificate := certificate_of(table, where)) is not None:
        try:
            certificate.certificate()
        except SecretFileError as error:
            faults.add(f"{certificate.setting}: {error}")
    faults.check()


def identity_of(table: EndpointSettings, where: str, trust: Trust | None) -> ClientIdentity | None:
    """The certificate that authsvc presents to an endpoint, and its key; None for none.

    Args:
        table: the settings.
        where: the table's name, for errors.
        trust: the certificate authorities of the endpoint; None for the system's.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    if not table.is_certified:
        return None
    files = _file(table.client_certificate_file), _file(table.client_certificate_key_file)
    faults = ConfigFaults()
    for path, setting in zip(files, (CERTIFICATE_SETTING, KEY_SETTING), strict=True):
        try:
            read_identity_file(path, setting)
        except ClientIdentityError as error:
            faults.add(f"{where}.{setting}: {error}")
    faults.check()
    try:
        return ClientIdentity(*files, trust)
    except ClientIdentityError as error:
        raise ConfigError(f"{where}.{error.setting}: {error}") from None


def authentication_of(table: EndpointSettings, where: str) -> ClientAuthentication:
    """What authsvc adds to its requests to an endpoint. No file is read.

    Args:
        table: the settings.
        where: the table's name, for errors.
    """
    setting = f"{where}.{table.credential_setting}"
    match table.auth_method:
        case "client_secret_basic":
            return ClientSecretBasic(table.client_id, _file(table.client_secret_file), setting)
        case "client_secret_post":
            return ClientSecretPost(table.client_id, _file(table.client_secret_file), setting)
        case "private_key_jwt":
            return PrivateKeyJwt(
                table.client_id,
                _file(table.private_key_file),
                setting,
                algorithm=table.private_key_algorithm or "",
                key_id=table.private_key_id,
                audience=table.assertion_audience,
                certificate=certificate_of(table, where),
            )
        case "client_assertion_file":
            return AssertionFile(
                table.client_id,
                _file(table.client_assertion_file),
                setting,
                table.client_assertion_type,
            )
        case "tls_client_auth" | "self_signed_tls_client_auth" | "none":
            return NamedClient(table.client_id, setting)


def _file(path: Path | None) -> Path:
    """A file that the method of the table needs: the table's rules have checked that it is set."""
    if path is None:
        raise TypeError("the table has no file for its auth_method")
    return path


def certificate_of(table: EndpointSettings, where: str) -> ClientCertificate | None:
    """The certificate of the private key that signs assertions; None for none. No file is read.

    Args:
        table: the settings.
        where: the table's name, for errors.
    """
    if table.private_key_certificate_file is None:
        return None
    setting = f"{where}.private_key_certificate_file"
    return ClientCertificate(
        table.private_key_certificate_file, setting, table.private_key_thumbprint
    )
