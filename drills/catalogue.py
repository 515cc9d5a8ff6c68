"""All drills, in the order in which they are done."""

from __future__ import annotations

from drills.drill import Drill
from drills.runbooks import (
    backup_restore,
    ca_rotation,
    expired_certificate,
    fortieth_server,
    full_disk,
    hs256_rotation,
    id_to_person,
    log_rotation,
    lost_audit,
    mass_revocation,
    restart,
    scale,
    service_token_rotation,
    store_nearly_full,
    store_outage,
    valkey_password,
)

DRILLS: tuple[Drill, ...] = (
    ca_rotation.DRILL,
    hs256_rotation.DRILL,
    backup_restore.DRILL,
    id_to_person.DRILL,
    lost_audit.DRILL,
    log_rotation.DRILL,
    expired_certificate.DRILL,
    service_token_rotation.DRILL,
    valkey_password.DRILL,
    restart.DRILL,
    scale.DRILL,
    fortieth_server.DRILL,
    store_outage.DRILL,
    store_nearly_full.DRILL,
    mass_revocation.DRILL,
    full_disk.DRILL,
)
"""Neighbours with the same store share an installation in the short form."""
