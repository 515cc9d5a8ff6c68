"""Every container that outlives a request and may grow is listed with its bound.

Reads the source of the shipped packages. A container is whatever is built empty, or of a kind that
exists to grow, and is kept by an object, a class or a module. A new one fails here until it is
listed, which is the place to say what bounds it: a cache of what callers send is an ``LruCache``
with bytes (docs/decisions/0016).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_layering import ROOT, modules

CACHES = {"lru_cache", "cache"}
"""Decorators and functions of ``functools`` that keep what they are given."""

GROWING = {
    *("LruCache", "Newest", "Counter", "OrderedDict", "defaultdict", "deque"),
    *("WeakKeyDictionary", "WeakValueDictionary", "WeakSet"),
}
"""Kinds that exist to grow, whatever they begin with."""

PLAIN = {"dict", "list", "set"}
"""Kinds that count where they begin empty."""

CONFIGURATION = "as the configuration has it"
IN_FLIGHT = "calls in flight, each removed as it ends; those are bounded"
NAMES = "labels of a fixed set: operations, methods, tools, reasons, statuses"
ONE_COMMAND = "of one run of a command"
TASKS = "its own tasks, each removed as it ends"

BOUNDED = {
    "authsvc/client/admin_channels.py": {
        "AdminChannels._channels": "the addresses that it was made with",
        "AdminChannels._outdated": "those of each certificate that it had, until it is closed",
    },
    "authsvc/assertions/signer.py": {"Assertions._cached": "cached_tokens, 10 KB each on average"},
    "authsvc/stores/sqlite/transaction.py": {
        "Transaction.removed": "of one transaction, which removes 1,000 records at once"
    },
    "authsvc/audit/admin_actions.py": {"AdminActions._recent": "1,024 actions, by digests"},
    "authsvc/audit/security_file.py": {"SecurityFile.counts": NAMES},
    "authsvc/audit/ocsf.py": {"_ip": "1,024 addresses, of 40 characters each"},
    "authsvc/audit/calls.py": {
        "CallAudit.counts": NAMES,
    },
    "authsvc/audit/call_event.py": {"CallEvent.arguments": "16, of 256 characters each"},
    "authsvc/audit/pending.py": {"PendingCalls._events": "8,192, of 4,000,000 characters"},
    "authsvc/access/client_budgets.py": {"ClientBudgets._by_network": "4,096 clients"},
    "authsvc/access/certificate_names.py": {
        "_of_bounded": "256 certificates of at most 32 KiB, and their names, which are in them"
    },
    "authsvc/cli/connection.py": {"default_map": ONE_COMMAND},
    "authsvc/domain/resolution.py": {"_NONE": "it is empty, and cannot be changed"},
    "authsvc/http_auth/credential_options.py": {"CredentialOptions.of_request": "one argument"},
    "authsvc/http_auth/named_calls.py": {"_NO_ARGUMENTS": "it is empty"},
    "mcp_adapter/gate/call_audit.py": {
        "AuditedExchange._failures": "the calls of one request; a batch has 50 at most",
        "AuditedExchange._request_ids": "likewise",
    },
    "mcp_adapter/gate/middleware.py": {"SessionGate._served": "methods of HTTP"},
    "authsvc/cli/explanation_steps.py": {"Steps.done": ONE_COMMAND},
    "authsvc/client/consistency.py": {
        "ConsistencyTokens._tokens": "10,000 for 2 s; ids and resources that a server has accepted"
    },
    "authsvc/client/decoding.py": {"Decoder._decoded": "4,096 and 16 MiB, for 30 s"},
    "authsvc/client/replica.py": {"Replica._tasks": TASKS},
    "authsvc/client/replicas.py": {
        "Replicas._by_endpoint": "the addresses that are configured, or that DNS has now",
        "Replicas._closing": TASKS,
    },
    "authsvc/client/stream.py": {
        "ResolveStream._abandoned": "calls that were cancelled, until the next batch",
        "ResolveStream._outbox": IN_FLIGHT,
    },
    "authsvc/client/streams.py": {"Streams._finishing": "streams that end, with their last calls"},
    "authsvc/client/waiting.py": {"WaitingRequests._requests": IN_FLIGHT},
    "authsvc/server/config/credentials.py": {"StsSettings.claim_tags": CONFIGURATION},
    "authsvc/server/config/introspection.py": {"IntrospectionSettings.audiences": CONFIGURATION},
    "authsvc/server/config/issuers.py": {"IssuerSettings.audiences": CONFIGURATION},
    "authsvc/console/event_counts.py": {
        "EventCounts._steps": "6 hours of 15 seconds, six numbers each"
    },
    "authsvc/console/feed.py": {"Feed._events": "events_kept, 2.6 KB each on average"},
    "authsvc/console/attempts.py": {"SignInAttempts._by_address": "1,024 addresses"},
    "authsvc/console/logins.py": {"Logins._logins": "100 operators, by digest"},
    "authsvc/console/telemetry.py": {"ConsoleMetrics._requests": "pages x statuses"},
    "authsvc/console/operators.py": {
        "OperatorsFile._operators": CONFIGURATION,
    },
    "authsvc/credentials/cache.py": {
        "CacheCounts.failed": NAMES,
        "CredentialCache._calls": "256",
        "CredentialCache._calls_of": "principals with calls in flight, each removed with its last",
    },
    "authsvc/credentials/owned.py": {
        "OwnedCache._entries": "its max_entries and max_bytes; those of one owner, max_owned",
        "OwnedCache._keys": "the keys of _entries",
    },
    "authsvc/diagnosis/__init__.py": {"Report.findings": ONE_COMMAND},
    "authsvc/diagnosis/envoy/configuration.py": {
        "Envoy.managers": ONE_COMMAND,
        "Envoy.clusters": ONE_COMMAND,
    },
    "authsvc/diagnosis/envoy/faults.py": {"Faults._places": ONE_COMMAND},
    "authsvc/diagnosis/envoy/fields.py": {"Fields.items": ONE_COMMAND},
    "authsvc/diagnosis/gate.py": {"_REQUEST": "a constant; its empty object stays so"},
    "authsvc/rpc/errors.py": {
        "_encoded": "4,096 statuses of some hundred bytes, by reason and rounded waiting time",
        "_logged": NAMES,
    },
    "authsvc/common/guessable.py": {"_known_digests": "one"},
    "authsvc/gateways/check_responses.py": {
        "of_call": "1,024 methods and tools of at most 200 characters each"
    },
    "authsvc/gateways/encoded_checks.py": {
        "_is_read": "4,096 names of at most 127 bytes, and what is no longer",
        "_lengths": "4,096 numbers",
    },
    "authsvc/gateways/repeated_checks.py": {
        "RepeatedChecks._repeated": "16,384, 8 KB each on average"
    },
    "authsvc/gateways/ext_authz.py": {
        "ExtAuthzServicer._route_checks": "registered callers, for their registered resources"
    },
    "authsvc/gateways/audited_checks.py": {"AuditedCheck._declared": CONFIGURATION},
    "authsvc/gateways/routes.py": {
        "Route.tools": CONFIGURATION,
        "Route.audited_arguments": CONFIGURATION,
    },
    "authsvc/server/config/ext_authz.py": {
        "ExtAuthzRoute.tools": CONFIGURATION,
        "ExtAuthzRoute.audited_arguments": CONFIGURATION,
    },
    "authsvc/signals/polling.py": {
        "_Answers.acknowledged": "MAX_SETS, of one answer, until the next poll",
        "_Answers.errors": "MAX_SETS, of one answer, until the next poll",
    },
    "authsvc/signals/senders.py": {"SenderBudgets._accepted": "1,024 senders"},
    "authsvc/signals/status.py": {
        "SignalStatuses._unwritten": CONFIGURATION,
    },
    "authsvc/telemetry/signals.py": {
        "SignalCounts.last_times": CONFIGURATION,
        "SignalCounts.polls": CONFIGURATION,
        "SignalCounts.results": "configured streams, and names of a fixed set",
    },
    "authsvc/server/config/signals.py": {"SignalSettings.actions": CONFIGURATION},
    "authsvc/http_server/connection.py": {"ConnectionCounts.dropped": NAMES},
    "authsvc/http_server/connections.py": {
        "Connections._all": "max_connections",
        "Connections._of_address": "open connections",
    },
    "authsvc/http_server/drop_log.py": {"DropLog._unlogged": NAMES},
    "authsvc/http_server/listening.py": {"Listener._pending": "open connections"},
    "authsvc/http_server/waiting.py": {"WaitingConnections._by_phase": "open connections"},
    "authsvc/signals/verification.py": {"SignatureVerifier._streams": CONFIGURATION},
    "authsvc/access/rates.py": {
        "CallRates._groups": "configured issuers and everyone's, at registered resources; 32,768 "
        "buckets each",
        "CallRates.rejected": "101 names of limits",
    },
    "authsvc/resolver/call_limits.py": {"CallLimits._reported": "1,024 limits of resources"},
    "authsvc/access/usage.py": {"Usages._by_caller": "registered callers, and one for all others"},
    "authsvc/common/rarely.py": {"Rarely._passed": "1,024 kinds"},
    "authsvc/common/lru.py": {"LruCache._entries": "its own bounds"},
    "authsvc/common/newest.py": {"Newest._items": "its own bounds"},
    "authsvc/common/wsgi_serving.py": {"_BoundedServer._open": "16"},
    "authsvc/common/setting_rules.py": {"_RULES": "the methods of tables that are marked in code"},
    "authsvc/domain/revocation.py": {
        "NotBefores._by_key": "what operators and the signals of configured streams have set, "
        "names of at most 2,048 characters, until they are dropped"
    },
    "authsvc/domain/record.py": {"Record.grants": "registered resources, one grant each"},
    "authsvc/resolver/response_cache.py": {
        "CachedResponses._responses": "cached_tokens, 20 KB each on average",
    },
    "authsvc/stores/memory.py": {
        "MemoryStore._documents": "names of documents, each in code",
        "MemoryStore._log": "events_kept, 2.6 KB each on average",
        "MemoryStore._received": "verified signals, until each could not be accepted again",
        "MemoryStore._records": "the sessions themselves, until they expire; no cache",
        "MemoryStore._sorted_ids": "the ids of the sessions themselves",
        "MemoryStore._unauthenticated": "unauthenticated_cap",
    },
    "authsvc/stores/record_cache.py": {
        "RecordCache._fetches": IN_FLIGHT,
        "RecordCache._records": "cached_sessions, 2.6 KB each on average",
    },
    "authsvc/stores/redis/link.py": {"Link._abandoned": TASKS},
    "authsvc/stores/redis/store.py": {"RedisStore._followers": "one for each partition"},
    "authsvc/stores/redis/tasks.py": {"BackgroundWrites._tasks": "MAX_IN_BACKGROUND"},
    "authsvc/rpc/resolve_stream.py": {
        "ResolveStream._unanswered": "1,024",
    },
    "authsvc/rpc/outbox.py": {
        "Outbox._parts": "responses to two batches and to what was unanswered, then nothing more "
        "is read",
        "Outbox._writers": TASKS,
    },
    "authsvc/telemetry/clocks.py": {"ClockOffsets.seconds": CONFIGURATION},
    "authsvc/telemetry/metrics.py": {
        "Metrics.audited_calls": NAMES,
        "Metrics.audited_events": NAMES,
        "Metrics.renewed_files": CONFIGURATION,
    },
    "authsvc/telemetry/counts.py": {
        "Checks.answers": NAMES,
        "Operations.results": NAMES,
        "Operations.seconds": NAMES,
        "Resolves.results": NAMES,
    },
    "authsvc/telemetry/security.py": {
        "SecurityEvents.counts": "types, reasons and registered callers"
    },
    "authsvc/net/trust.py": {"tls_context": "one"},
    "authsvc/common/config_faults.py": {"ConfigFaults._lines": "one configuration"},
    "authsvc/common/client_authentication/method.py": {
        "ClientParameters.form": "three parameters",
        "ClientParameters.headers": "one",
    },
    "authsvc/net/tls.py": {"_placeholder": "one"},
    "authsvc/tokens/introspection.py": {
        "IntrospectionVerifier._requests": "256",
        "_Results._results": "4,096 and 64 MiB",
    },
    "authsvc/tokens/audiences.py": {"Audiences.accepted": CONFIGURATION},
    "authsvc/tokens/profiles.py": {"Profile.kinds": CONFIGURATION},
    "authsvc/tokens/jwt.py": {
        "JwtVerifier._issuers": CONFIGURATION,
        "JwtVerifier._cache": "cached_tokens, 10 KB each on average",
    },
    "authsvc/tokens/rejections.py": {
        "Rejections._rejected": "4,096, 1 KB each on average",
    },
    "authsvc/resolver/fairness.py": {"PassLimiter._waiting": IN_FLIGHT},
    "authsvc/http_auth/refusals.py": {
        "Refusal.data": "of one answer",
        "Refusal.headers": "of one answer",
    },
    "authsvc/http_auth/requirements.py": {"Requirement.implied_by": "as it was made"},
    "authsvc/rpc/waiting.py": {
        "BoundedHandlers._found": "methods that are served",
        "BoundedHandlers._failed": "max_unauthenticated_calls",
        "BoundedHandlers._unidentified": "max_unauthenticated_calls",
    },
    "authsvc/rpc/open_calls.py": {"OpenCalls._by_peer": "connections with calls in flight"},
    "authsvc/rpc/request_reader.py": {"RequestReader._waiting": "max_unauthenticated_calls"},
    "authsvc/server/workers.py": {
        "_Supervisor._processes": CONFIGURATION,
        "_Supervisor._serving": CONFIGURATION,
    },
    "authsvc/common/secret_file.py": {"held_secret": CONFIGURATION},
    "authsvc/net/certificate_files.py": {"CertificateFiles._logged": CONFIGURATION},
    "mcp_adapter/transport/cancellation.py": {"InFlight._scopes": "requests in flight"},
    "mcp_adapter/server/config.py": {"Settings.implied_scopes": CONFIGURATION},
    "mcp_adapter/server/telemetry.py": {
        "AdapterMetrics.audited_calls": NAMES,
        "AdapterMetrics._calls": NAMES,
        "AdapterMetrics._requests": NAMES,
        "AdapterMetrics._seconds": NAMES,
    },
    "mcp_adapter/testing/fake.py": {
        "FakeResolver.credentials": "of a user's test",
        "FakeResolver.named": "of a user's test",
        "FakeResolver.rejected": "of a user's test",
        "FakeResolver.sessions": "of a user's test",
        "FakeResolver.tokens": "of a user's test",
    },
    "mcp_adapter/tools/listing.py": {"_Scan.found": "max_results, 1,000 at most"},
    "mcp_adapter/tools/s3.py": {"S3Clients._kept": "64, and those in use, by AWS's credentials"},
    "mcp_adapter/gate/filtered_responses.py": {"FilteredResponse._start": "of one answer"},
    "mcp_adapter/gate/framework_users.py": {"_loaded_sdk": "one"},
    "mcp_adapter/gate/watching.py": {"Watched._start": "of one answer"},
}
"""By module: what may grow, and what bounds it."""


def found_in(source: str) -> Iterator[str]:
    """The containers of a module, by class and name."""
    yield from _containers(ast.parse(source).body, "")


def _containers(body: list[ast.stmt], where: str) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _containers(statement.body, f"{where}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of_function(statement, where)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and _grows(statement.value):
            yield from (f"{where}{name}" for name in _names(statement, ast.Name))
        else:
            nested = [
                child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)
            ]
            yield from _containers(nested, where)


def _of_function(function: ast.FunctionDef | ast.AsyncFunctionDef, where: str) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(_called(decorator) in CACHES for decorator in node.decorator_list):
                yield f"{where}{node.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and _grows(node.value):
            yield from (f"{where}{name}" for name in _names(node, ast.Attribute))


def _names(
    statement: ast.Assign | ast.AnnAssign, kind: type[ast.Name | ast.Attribute]
) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        for node in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(node, ast.Name) and kind is ast.Name:
                yield node.id
            elif isinstance(node, ast.Attribute) and kind is ast.Attribute:
                yield node.attr


def _grows(node: ast.AST | None) -> bool:
    """Whether an expression makes something that is there to be filled."""
    if node is None or isinstance(node, ast.Subscript):  # such as ``Callable[[], int]``
        return False
    return _is_container(node) or any(map(_grows, ast.iter_child_nodes(node)))


def _is_container(node: ast.AST) -> bool:
    if isinstance(node, ast.Dict):
        return not node.keys
    if isinstance(node, ast.List):
        return not node.elts
    if isinstance(node, ast.keyword) and node.arg == "default_factory":
        return _called(node.value) in PLAIN | GROWING
    if not isinstance(node, ast.Call):
        return False
    is_empty = not node.args and not node.keywords
    return _called(node) in GROWING | CACHES or (_called(node) in PLAIN and is_empty)


def _called(node: ast.expr) -> str:
    """The last part of the name of what is called, or would be."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def test_whatever_grows_has_a_bound() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for package in ("authsvc", "mcp_adapter")
        for path in modules(package)
        for name in found_in(path.read_text())
    }
    listed = {f"{module}: {name}" for module, bounds in BOUNDED.items() for name in bounds}
    assert sorted(found - listed) == [], "not listed: what bounds it?"
    assert sorted(listed - found) == [], "listed, and not there any more"


@pytest.mark.parametrize(
    "source",
    [
        "@lru_cache\ndef it(): ...",
        "@functools.lru_cache(maxsize=9)\ndef it(): ...",
        "@functools.cache\ndef it(): ...",
        "def made():\n    @cache\n    def it(): ...",
        "it = functools.lru_cache(9)(made)",
        "it = {}",
        "it: dict[str, int] = {}",
        "it = dict()",
        "it = Counter(known)",
        "if True:\n    it = set()",
        "class A:\n    def __init__(self):\n        self.it = deque(maxlen=9)",
        "class A:\n    def __init__(self):\n        self.it: dict[int, int] = {}",
        "class A:\n    def __init__(self):\n        self.it, self.other = {}, 0",
        "class A:\n    def __init__(self):\n        self.it = {1: {}}",
        "class A:\n    def __init__(self):\n        self.it = LruCache[str, int](9, 9)",
        "class A:\n    async def run(self):\n        self.it = list()",
        "class A:\n    it: dict[str, int] = field(default_factory=dict)",
        "class A:\n    it = collections.OrderedDict()",
    ],
)
def test_each_kind_is_found(source: str) -> None:
    assert "it" in [name.removeprefix("A.") for name in found_in(source)]


@pytest.mark.parametrize(
    "source",
    [
        "it = {1: 2}",
        "it = [1]",
        "def made():\n    it = {}\n    return it",
        "class A:\n    def __init__(self):\n        self.it = tuple(given)",
        "class A:\n    def __init__(self):\n        self.it = dict(given)",
    ],
)
def test_what_does_not_grow_or_stay_is_not_found(source: str) -> None:
    assert list(found_in(source)) == []
