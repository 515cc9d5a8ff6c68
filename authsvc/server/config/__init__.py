"""authsvc's settings: a TOML file, and ``AUTHSVC_…`` variables (``__`` between nested names).

A module for each table, or for two that belong together; ``settings`` has the top level.
"""

from authsvc.server.config.assertions import AssertionSettings
from authsvc.server.config.callers import CallerSettings, TlsSettings
from authsvc.server.config.credentials import (
    CredentialSettings,
    StaticCredentials,
    StsSettings,
)
from authsvc.server.config.development import DevelopmentSettings
from authsvc.server.config.exchange import ApiServerSettings, ExchangeSettings
from authsvc.server.config.ext_authz import ExtAuthzRoute, ExtAuthzSettings
from authsvc.server.config.introspection import IntrospectionSettings
from authsvc.server.config.issuers import IssuerSettings
from authsvc.server.config.limits import LimitSettings
from authsvc.server.config.metrics import MetricsSettings
from authsvc.server.config.sessions import RevocationSettings, SessionSettings
from authsvc.server.config.settings import Settings
from authsvc.server.config.signals import SignalSettings, SignalStreamSettings
from authsvc.server.config.store import StoreSettings

__all__ = [
    "ApiServerSettings",
    "AssertionSettings",
    "CallerSettings",
    "CredentialSettings",
    "DevelopmentSettings",
    "ExchangeSettings",
    "ExtAuthzRoute",
    "ExtAuthzSettings",
    "IntrospectionSettings",
    "IssuerSettings",
    "LimitSettings",
    "MetricsSettings",
    "RevocationSettings",
    "SessionSettings",
    "Settings",
    "SignalSettings",
    "SignalStreamSettings",
    "StaticCredentials",
    "StoreSettings",
    "StsSettings",
    "TlsSettings",
]
