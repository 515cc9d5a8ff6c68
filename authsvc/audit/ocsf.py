"""Events as those of OCSF, the Open Cybersecurity Schema Framework, 1.8.0.

docs/audit.md has the class of each event, and where each field goes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from authsvc import __version__
from authsvc.audit.call_event import (
    CALL,
    CALLS_DROPPED,
    DROPPED_TEXT,
    CallEvent,
    CallOutcome,
)
from authsvc.audit.security import (
    FIELDS,
    SecurityEvent,
    SecurityEventType,
    level_of,
    text_of,
    values_of,
)
from authsvc.audit.unanswered import OUTCOME_UNKNOWN

VERSION = "1.8.0"
"""The version of the schema."""

PRODUCT = "authsvc"
UNKNOWN = "unknown"
"""The name of a user, an application or an endpoint that is not known, where the schema requires
one."""

EVERYONE = "everyone"
"""The name of the user whose tokens were revoked, where those were everyone's."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OcsfClass:
    """A class of the schema, with its category."""

    uid: int
    name: str
    category_uid: int
    category_name: str


AUTHENTICATION = OcsfClass(3002, "Authentication", 3, "Identity & Access Management")
API_ACTIVITY = OcsfClass(6003, "API Activity", 6, "Application Activity")
APPLICATION_LIFECYCLE = OcsfClass(6002, "Application Lifecycle", 6, "Application Activity")
APPLICATION_ERROR = OcsfClass(6008, "Application Error", 6, "Application Activity")

Activity = tuple[int, str]
"""``activity_id`` and ``activity_name``."""

LOGON, LOGOFF = (1, "Logon"), (2, "Logoff")
START = (3, "Start")
READ, DELETE = (2, "Read"), (4, "Delete")
GENERAL_ERROR = (1, "General Error")
OTHER = 99
SESSION_OPENED = (OTHER, "Session created")

INFORMATIONAL, LOW, MEDIUM = (1, "Informational"), (2, "Low"), (3, "Medium")
UNKNOWN_OUTCOME, SUCCESS, FAILURE = (0, "Unknown"), (1, "Success"), (2, "Failure")
ALLOWED, DENIED = (1, "Allowed"), (2, "Denied")

_CLASSES: Mapping[str, tuple[OcsfClass, Activity]] = {
    SecurityEventType.TOKEN_REJECTED: (AUTHENTICATION, LOGON),
    SecurityEventType.SUBJECT_MISMATCH: (AUTHENTICATION, LOGON),
    SecurityEventType.SESSION_CREATED: (AUTHENTICATION, LOGON),
    SecurityEventType.SESSION_REAUTHENTICATED: (AUTHENTICATION, LOGON),
    SecurityEventType.SESSION_REVOKED: (AUTHENTICATION, LOGOFF),
    SecurityEventType.SESSION_ENDED: (AUTHENTICATION, LOGOFF),
    SecurityEventType.TOKENS_REVOKED: (AUTHENTICATION, LOGOFF),
    SecurityEventType.CALLER_DENIED: (AUTHENTICATION, LOGON),
    SecurityEventType.SERVICE_STARTED: (APPLICATION_LIFECYCLE, START),
}
"""The class and activity of a security event; of any other, it is API Activity."""

_FAILURES = frozenset(
    {
        SecurityEventType.TOKEN_REJECTED,
        SecurityEventType.SUBJECT_MISMATCH,
        SecurityEventType.CALLER_DENIED,
        SecurityEventType.LIMIT_REACHED,
        SecurityEventType.SIGNAL_REJECTED,
    }
)

_WRITES = frozenset(
    {
        SecurityEventType.SESSION_CREATED,
        SecurityEventType.SESSION_REAUTHENTICATED,
        SecurityEventType.SESSION_REVOKED,
        SecurityEventType.TOKENS_REVOKED,
    }
)
"""What the store may have done, or not, where its answer was lost."""

_SIGNALS = frozenset({SecurityEventType.SIGNAL_RECEIVED, SecurityEventType.SIGNAL_REJECTED})

_MAX_IP_CHARACTERS = 40
"""Of the schema's ``ip_t``: an address with a long zone is no such value."""

ACCESS_TOKEN, SIGNAL_TOKEN = "Access Token", "Security Event Token"

_ENCODER = json.JSONEncoder(separators=(",", ":"))

_TARGET = {"role_id": 1, "role": "Target"}
_PROTOCOL = {"auth_protocol_id": 6, "auth_protocol": "OAUTH 2.0"}


def security_line(event: SecurityEvent, when: float) -> str:
    """A security event as one JSON object on one line, in ASCII, without its end.

    Args:
        event: what happened.
        when: in seconds since the epoch.
    """
    severity = MEDIUM if level_of(event) >= logging.WARNING else INFORMATIONAL
    fields = dict(zip(FIELDS, values_of(event), strict=True))
    return _ENCODER.encode(security_event(fields, when, text_of(event), severity))


def security_event(
    fields: Mapping[str, Any], when: float, text: str, severity: tuple[int, str]
) -> Event:
    """A security event.

    Args:
        fields: of a ``SecurityEvent``.
        when: in seconds since the epoch.
        text: what happened, for people.
        severity: number and name.
    """
    event_type = str(fields["event_type"])
    ocsf_class, activity = class_of(event_type, fields["detail"])
    if event_type == SecurityEventType.SESSION_CREATED and not fields["subject"]:
        activity = SESSION_OPENED  # nobody has logged on
    failed = event_type in _FAILURES
    found = _event(ocsf_class, activity, when, event_type, "authsvc.security", severity)
    status = FAILURE if failed else SUCCESS
    if event_type in _WRITES and fields["detail"].startswith(OUTCOME_UNKNOWN):
        status = UNKNOWN_OUTCOME
    found |= _status(status, fields["reason"], fields["detail"])
    found["message"] = text
    if fields["setting"]:
        found["unmapped"] = {"setting": fields["setting"]}
    if ocsf_class is AUTHENTICATION:
        found |= _authentication(event_type, fields)
    elif ocsf_class is API_ACTIVITY:
        found |= _api_activity(event_type, fields)
    else:
        found["app"] = _product()
    return found


def class_of(event_type: str, detail: str = "") -> tuple[OcsfClass, Activity]:
    """The class and the activity of an event.

    Args:
        event_type: of the event.
        detail: of an ``ADMIN_ACTION``: it begins with the method.
    """
    if event_type == SecurityEventType.ADMIN_ACTION:
        return API_ACTIVITY, _of_admin(_method_in(detail))
    name = event_type.replace("_", " ").capitalize()
    return _CLASSES.get(event_type, (API_ACTIVITY, (OTHER, name)))


def call(event: CallEvent, when: float, sample_ratio: float) -> Event:
    """A call.

    Args:
        event: of the call.
        when: it ended, in seconds since the epoch.
        sample_ratio: of the calls.
    """
    denied = event.outcome is CallOutcome.DENIED
    severity = LOW if denied else INFORMATIONAL
    activity = _of_method(event.method)
    found = _event(API_ACTIVITY, activity, when, CALL, "authsvc.calls", severity)
    found |= _status(_STATUSES[event.outcome], event.reason)
    found |= _verdict(DENIED if denied else ALLOWED)
    found["metadata"]["profiles"] = ["security_control"]
    duration = round(event.duration_seconds * 1000)
    found["duration"] = duration
    found["actor"] = _actor(event)
    found["src_endpoint"] = _endpoint(event.client_address)
    found["api"] = {"operation": event.method, "service": _service(event.caller, event.resource)}
    if event.tool:
        found["resources"] = [_resource(event)]
    if event.status:
        found["http_response"] = {"code": event.status, "latency": duration}
    if event.trace_id:
        found["trace"] = {"uid": event.trace_id}
        found["metadata"]["profiles"].append("trace")
    found["unmapped"] = {"sample_ratio": sample_ratio}
    if event.actors:
        found["unmapped"]["actors"] = [
            {"subject": actor.subject, "issuer": actor.issuer, "client_id": actor.client_id}
            for actor in event.actors
        ]
    return found


def calls_dropped(count: int, when: float) -> Event:
    """The report that calls were not audited.

    Args:
        count: how many.
        when: in seconds since the epoch.
    """
    found = _event(APPLICATION_ERROR, GENERAL_ERROR, when, CALLS_DROPPED, "authsvc.calls", MEDIUM)
    return found | {"count": count, "message": DROPPED_TEXT}


def _event(
    ocsf_class: OcsfClass,
    activity: Activity,
    when: float,
    event_type: str,
    log_name: str,
    severity: tuple[int, str],
) -> Event:
    """What every event has."""
    return {
        "metadata": {
            "version": VERSION,
            "product": _product(),
            "log_name": log_name,
            "event_code": event_type,
        },
        "time": round(when * 1000),
        "category_uid": ocsf_class.category_uid,
        "category_name": ocsf_class.category_name,
        "class_uid": ocsf_class.uid,
        "class_name": ocsf_class.name,
        "activity_id": activity[0],
        "activity_name": activity[1],
        "type_uid": ocsf_class.uid * 100 + activity[0],
        "severity_id": severity[0],
        "severity": severity[1],
    }


def _product() -> Event:
    return {"name": PRODUCT, "vendor_name": PRODUCT, "version": __version__}


def _status(status: tuple[int, str], reason: str, detail: str = "") -> Event:
    found: Event = {"status_id": status[0], "status": status[1]}
    if reason:
        found["status_code"] = reason
    if detail:
        found["status_detail"] = detail
    return found


def _verdict(action: tuple[int, str]) -> Event:
    """Of profile ``security_control``."""
    disposition = "Blocked" if action is DENIED else "Allowed"
    return {
        "action_id": action[0],
        "action": action[1],
        "disposition_id": action[0],
        "disposition": disposition,
    }


def _authentication(event_type: str, fields: Mapping[str, Any]) -> Event:
    caller, resource = fields["caller"], fields["resource"]
    found: Event = {"service": _service(PRODUCT, resource)}
    if event_type == SecurityEventType.CALLER_DENIED:
        return found | {"user": {"name": caller or UNKNOWN, "type_id": 4, "type": "Service"}}
    found |= _PROTOCOL
    found["user"] = _user(fields)
    app: Event = {"app_uid": fields["client_id"]} if fields["client_id"] else {}
    if event_type in _FAILURES:
        found["service"] = _service(caller, resource)
    elif caller:
        app["app_name"] = caller
    if app:
        found["actor"] = app
    if fields["session"]:
        found["session"] = _session(fields["session"], fields["issuer"])
    if fields["token_id"]:
        found["authentication_token"] = _token(fields["token_id"])
    if fields["client_address"]:
        found["src_endpoint"] = _endpoint(fields["client_address"])
    return found


def _user(fields: Mapping[str, Any]) -> Event:
    if fields["subject"]:
        return {"uid": fields["subject"], "domain": fields["issuer"]}
    is_everyone = (
        fields["event_type"] == SecurityEventType.TOKENS_REVOKED and not fields["token_id"]
    )
    return {"name": EVERYONE if is_everyone else UNKNOWN}


def _api_activity(event_type: str, fields: Mapping[str, Any]) -> Event:
    operation = event_type
    if event_type == SecurityEventType.ADMIN_ACTION:
        operation = f"authsvc.v1.SessionAdminService/{_method_in(fields['detail'])}"
    actor: Event = {"app_name": fields["caller"] or UNKNOWN}
    api: Event = {"operation": operation, "service": _service(PRODUCT, fields["resource"])}
    source = _endpoint(fields["client_address"])
    found: Event = {"actor": actor, "src_endpoint": source, "api": api}
    is_signal = event_type in _SIGNALS
    if fields["token_id"]:
        api["token"] = _token(fields["token_id"], SIGNAL_TOKEN if is_signal else ACCESS_TOKEN)
    if fields["client_id"]:
        actor["app_uid"] = fields["client_id"]
    if fields["session"]:
        actor["session"] = _session(fields["session"], fields["issuer"])
    if fields["subject"] and is_signal:
        # The user whom it is about; the provider acts.
        found["resources"] = [_signalled(fields)]
    elif fields["subject"]:
        actor["user"] = _user(fields)
    return found


def _signalled(fields: Mapping[str, Any]) -> Event:
    return {"uid": fields["subject"], "namespace": fields["issuer"], "type": "User", **_TARGET}


def _actor(event: CallEvent) -> Event:
    found: Event = {}
    if event.subject:
        found["user"] = {"uid": event.subject, "domain": event.issuer}
    if event.session:
        found["session"] = _session(event.session, event.issuer)
    if event.client_id:
        found["app_uid"] = event.client_id
    return found or {"app_name": UNKNOWN}


def _session(session: str, issuer: str) -> Event:
    return {"uid": session, "issuer": issuer} if issuer else {"uid": session}


def _token(token_id: str, token_type: str = ACCESS_TOKEN) -> Event:
    return {"uid": token_id, "type": token_type}


def _service(name: str, resource: str) -> Event:
    found: Event = {"name": name or UNKNOWN}
    if resource:
        found["uid"] = resource
    return found


def _resource(event: CallEvent) -> Event:
    """What was called, got or read, with the arguments that a tool declares as safe."""
    kind = _KINDS.get(event.method, "tool")
    found: Event = {"name": event.tool, "type": f"MCP {kind}", **_TARGET}
    if event.arguments:
        found["data"] = {"arguments": dict(event.arguments)}
    return found


_KINDS = {"prompts/get": "prompt", "resources/read": "resource"}


def _endpoint(address: str) -> Event:
    if len(address) <= _MAX_IP_CHARACTERS and (found := _ip(address)):
        return {"ip": found}
    return {"name": address or UNKNOWN}


@lru_cache(maxsize=1_024)
def _ip(address: str) -> str:
    """An IP address as the schema has it; empty for what is none. Cached, as clients come again."""
    with suppress(ValueError):
        return str(ip_address(address))
    return ""


def _of_method(method: str) -> Activity:
    """The activity of an MCP method."""
    if method.rpartition("/")[2] in {"list", "read", "get"}:
        return READ
    return OTHER, method or UNKNOWN


_ADMIN_VERBS = {"List": READ, "Get": READ, "Watch": READ, "Revoke": DELETE}


def _of_admin(method: str) -> Activity:
    """The activity of an RPC of operators, by its verb."""
    for verb, activity in _ADMIN_VERBS.items():
        if method.startswith(verb):
            return activity
    return OTHER, method or UNKNOWN


def _method_in(detail: str) -> str:
    return detail.partition(";")[0]


_STATUSES: Mapping[CallOutcome, tuple[int, str]] = {
    CallOutcome.SUCCEEDED: SUCCESS,
    CallOutcome.FAILED: FAILURE,
    CallOutcome.DENIED: FAILURE,
    CallOutcome.ENDED: (OTHER, "Ended"),
}
