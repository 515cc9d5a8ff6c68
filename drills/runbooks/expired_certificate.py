"""Lets a certificate expire, seen before, and replaces it without a restart."""

from __future__ import annotations

import time
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.net.certificates import SignedCertificate, issue
from drills.drill import Drill
from drills.installation import Installation, replace_file
from drills.stage import Stage

LIFE_SECONDS = 20.0
SHORT_LIFE_SECONDS = 8.0
RECOVERY_SECONDS = 5.0
"""Without load it is 1.7 s at most: a replica looks at its files each 0.5 s, and a client that has
found the old certificate tries again within 1.2 s."""

_DAY_SECONDS = 86_400.0
_METRIC = "authsvc_certificate_expire_timestamp_seconds"


async def steps(stage: Stage) -> None:
    installation, secrets = stage.installation, stage.installation.secrets
    stage.step("authsvc has a certificate that expires soon")
    ends = _write_short_lived(installation, SHORT_LIFE_SECONDS if stage.is_short else LIFE_SECONDS)
    await stage.deliver(*stage.replicas)
    stage.step("the metric says when it expires")
    for replica in stage.replicas:
        expires = await stage.metric(replica.metrics, _METRIC, setting="tls.certificate_file")
        stage.check(f"of {replica.name}: {expires}", abs((expires or 0) - ends) < 1.5)
    await stage.until("it expires", lambda: time.time() > ends)
    stage.step("it has expired: new connections fail", is_outage=True)
    # Connections that were there before are closed by their age.
    await stage.until("calls fail", partial(_fails, stage))
    config = stage.replicas[0].config
    ran = await stage.run(
        "authsvc doctor --config /etc/authsvc/authsvc.toml",
        places={"/etc/authsvc/authsvc.toml": config},
    )
    stage.check("doctor says why", "expired" in ran.out)
    stage.step("make_secrets.py makes a new one", is_outage=True)
    replace_file(secrets / "authsvc.crt", b"")
    await installation.make_secrets(secrets)
    stage.step("the replicas have it; no restart", is_outage=True)
    for replica in stage.replicas:
        installation.mount(replica.name)
    seconds = await stage.until(
        "a session begins", partial(stage.load.attempt, "recovered"), seconds=RECOVERY_SECONDS
    )
    stage.note(f"a session began {seconds:.1f} s after the new certificate was there")
    await stage.hold(4)
    replaced = stage.tally.steps[-1]
    last = max((it.end for it in replaced.calls if it.failure), default=replaced.start)
    stage.note(f"the last failed call ended {last - replaced.start:.1f} s after it")
    stage.step("it is over")
    await stage.hold(3, short=1)
    stage.check("no program was restarted", all(it.is_running for it in stage.programs))


def _write_short_lived(installation: Installation, seconds: float) -> float:
    """A certificate of authsvc's with a short life; when it expires, seconds since the epoch."""
    secrets = installation.secrets
    key = serialization.load_pem_private_key((secrets / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - as make_secrets.py makes it
    authority = SignedCertificate(
        key, x509.load_pem_x509_certificate((secrets / "ca.crt").read_bytes())
    )
    names = [x509.DNSName(name) for name in ("authsvc", "localhost")]
    made = issue(authority, "authsvc", names, days=seconds / _DAY_SECONDS)
    replace_file(secrets / "authsvc.key", made.key_pem())
    replace_file(secrets / "authsvc.crt", made.certificate_pem())
    return made.certificate.not_valid_after_utc.timestamp()


async def _fails(stage: Stage) -> bool:
    return not await stage.load.attempt("expired")


DRILL = Drill(
    name="expired-certificate",
    about="The certificate of authsvc expires; the metric has said so, and a new one mends it.",
    page="docs/operations.md#rotation",
    before="nothing said so before it expired",
    steps=steps,
)
