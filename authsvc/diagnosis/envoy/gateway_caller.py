"""Which caller of authsvc a gateway is, by what it presents: a certificate or a service token."""

from __future__ import annotations

from pathlib import Path

from authsvc.access.callers import Caller, Callers
from authsvc.access.certificate_names import MAX_CERTIFICATE_BYTES, certificate_names
from authsvc.diagnosis.envoy import reading
from authsvc.diagnosis.envoy.configuration import Envoy, Filter
from authsvc.diagnosis.envoy.fields import Fields

_INJECTOR = "CredentialInjector"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


def caller_of(envoy: Envoy, filtered: Filter, callers: Callers) -> Caller | None:
    """The caller that a filter's checks come from; None where that cannot be told from here.

    Args:
        envoy: has the filter.
        filtered: the filter.
        callers: that are registered.

    Raises:
        AuthError: CALLER_NOT_ALLOWED: what it presents identifies no caller.
    """
    cluster = _cluster(envoy, filtered)
    if _injects(cluster):
        return None
    # As for a call: a kind of proof that no caller is registered with is not read.
    token = _token(filtered) if callers.by_token else ""
    certificate = _certificate(cluster) if callers.by_certificate else b""
    if not token and not certificate and (callers.by_certificate or callers.by_token):
        return None
    names = certificate_names({"x509_pem_cert": [certificate]}) if certificate else ()
    return callers.identify(names, token)


def _cluster(envoy: Envoy, filtered: Filter) -> Fields:
    grpc = filtered.config.table("grpc_service").table("envoy_grpc")
    return envoy.clusters.get(grpc.text("cluster_name"), Fields())


def _injects(cluster: Fields) -> bool:
    """Whether a filter of the cluster adds a service token, which is a secret of Envoy's."""
    options = cluster.table("typed_extension_protocol_options").items.values()
    return any(
        one.table("typed_config").kind == _INJECTOR
        for option in map(Fields.of, options)
        for one in option.tables("http_filters")
    )


def _token(filtered: Filter) -> str:
    for entry in filtered.config.table("grpc_service").tables("initial_metadata"):
        if entry.text("key").lower() == "authorization":
            return entry.text("value").partition(" ")[2].strip()
    return ""


def _certificate(cluster: Fields) -> bytes:
    """The first certificate of the chain, in PEM; empty where there is none to read."""
    socket = cluster.table("transport_socket").table("typed_config")
    context = socket.table("common_tls_context")
    for certificate in context.tables("tls_certificates"):
        return _leaf(certificate.table("certificate_chain"))
    for secret in context.tables("tls_certificate_sds_secret_configs"):
        return _from_file(secret)
    return b""


def _from_file(secret: Fields) -> bytes:
    """The certificate of a secret that Envoy reads from a file."""
    path = secret.table("sds_config").table("path_config_source").text("path")
    if not path:
        return b""
    try:
        resources = Fields.of(reading.parsed(reading.read(Path(path)))).tables("resources")
    except (OSError, ValueError):
        return b""
    for resource in resources:
        if resource.text("name") == secret.text("name"):
            return _leaf(resource.table("tls_certificate").table("certificate_chain"))
    return b""


def _leaf(chain: Fields) -> bytes:
    """The first certificate of a ``DataSource``; empty where it cannot be read here."""
    content = chain.text("inline_string").encode()
    if path := chain.text("filename"):
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_CERTIFICATE_BYTES)
        except OSError:
            return b""
    begin, end = content.find(_CERTIFICATE), content.find(_END)
    return content[begin : end + len(_END)] + b"\n" if 0 <= begin < end else b""
