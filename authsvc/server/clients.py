"""From settings to endpoints where authsvc is a client of an authorization server."""

from __future__ import annotations

import time

from authsvc.common.client_authentication import (
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
)
from authsvc.common.client_certificate import ClientCertificate
from authsvc.common.oauth_endpoint import OAuthEndpoint
from authsvc.common.secret_file import SecretFileError
from authsvc.common.settings import ConfigError
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.egress import fetcher_of


def endpoint_of(table: EndpointSettings, where: str) -> OAuthEndpoint:
    """An endpoint as configured.

    Args:
        table: the settings.
        where: the table's name, for errors.

    Raises:
        ConfigError: the secret, the key or another file cannot be used.
    """
    authentication = _authentication(table, where)
    try:
        authentication.parameters(table.endpoint, time.time())
    except SecretFileError as error:
        raise ConfigError(f"{error.setting or authentication.setting}: {error}") from None
    return OAuthEndpoint(table.endpoint, authentication, fetcher_of(table, where))


def _authentication(table: EndpointSettings, where: str) -> ClientAuthentication:
    file, setting = table.credential_file, f"{where}.{table.credential_setting}"
    match table.auth_method:
        case "client_secret_basic":
            return ClientSecretBasic(table.client_id, file, setting)
        case "client_secret_post":
            return ClientSecretPost(table.client_id, file, setting)
        case "private_key_jwt":
            return PrivateKeyJwt(
                table.client_id,
                file,
                setting,
                algorithm=table.private_key_algorithm or "",
                key_id=table.private_key_id,
                audience=table.assertion_audience,
                certificate=_certificate(table, where),
            )


def _certificate(table: EndpointSettings, where: str) -> ClientCertificate | None:
    if table.private_key_certificate_file is None:
        return None
    setting = f"{where}.private_key_certificate_file"
    return ClientCertificate(
        table.private_key_certificate_file, setting, table.private_key_thumbprint
    )
