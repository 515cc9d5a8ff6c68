"""All drills, in the order in which they are done."""

from __future__ import annotations

from drills.drill import Drill
from drills.runbooks import (
    backup_restore,
    ca_rotation,
    hs256_rotation,
    mass_revocation,
    restart,
    scale,
    service_token_rotation,
    store_outage,
    valkey_password,
)

DRILLS: tuple[Drill, ...] = (
    ca_rotation.DRILL,
    hs256_rotation.DRILL,
    backup_restore.DRILL,
    service_token_rotation.DRILL,
    valkey_password.DRILL,
    restart.DRILL,
    scale.DRILL,
    store_outage.DRILL,
    mass_revocation.DRILL,
)
