"""What to do about an issuer's keys that cannot be fetched, by the setting that would mend it."""

from __future__ import annotations

_BY_SETTING = {
    "ca_file": "Set the issuer's ca_file to the certificate of the authority that has issued its "
    "server's certificate, or have it send its whole chain.",
    "allow_private_addresses": "If the issuer is in your own network, set allow_private_addresses "
    "= true in its table.",
    "issuer": "Set issuer to the name that the metadata has, if its tokens have it as iss.",
    "metadata_url": "Correct the issuer's URL. If its metadata is elsewhere, set metadata_url; if "
    "it has none, jwks_url.",
    "jwks_url": "Correct jwks_url, or what is served there.",
    "jwks_uri": "Have the issuer correct the jwks_uri of its metadata, or set jwks_url, in place "
    "of discover, to the URL of its keys.",
    "proxy": "This machine has to reach it directly, or through the issuer's proxy: allow it in "
    "the firewall, NAT or network policy, or copy its keys to a jwks_file.",
}


def key_remedy(setting: str) -> str:
    """What to do about keys that cannot be fetched.

    Args:
        setting: that of the issuer's table which would mend it, or ``jwks_uri`` for that of its
            metadata; empty or another where none is known.
    """
    return _BY_SETTING.get(setting, "Correct the cause, or the issuer's setting.")
