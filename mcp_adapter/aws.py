"""Sessions of AWS's libraries that work as the caller of a request, and as nobody else.

Each request that a client of them signs asks authsvc for the caller's credentials (see
``Caller.credentials``): none are kept here, so they are never older than that, and once the
response to the caller's request is complete there are no more. They come from nowhere else: the
sessions ignore the environment, profiles, the machine's role, its endpoints and its proxies.

aiobotocore is needed; ``boto3_session_for`` needs boto3, too, which no extra installs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authsvc.common import arguments, extras

extras.need(__name__, "aws", "aiobotocore", "anyio", "httpx2", "mcp_types", "starlette")
# isort: split

from aiobotocore.config import AioConfig  # noqa: E402 - the extra is named first
from aiobotocore.credentials import AioCredentials  # noqa: E402
from aiobotocore.session import AioSession  # noqa: E402
from anyio import from_thread  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.credentials import Credentials, ReadOnlyCredentials  # noqa: E402
from botocore.loaders import Loader  # noqa: E402
from botocore.session import Session  # noqa: E402

from authsvc.common.aws_isolation import (  # noqa: E402
    blocking_options,
    connection_options,
    isolated_blocking_session,
    isolated_session,
)
from authsvc.domain.errors import AuthError, Reason  # noqa: E402
from authsvc.domain.resolution import AwsCredentials  # noqa: E402
from mcp_adapter.gate.callers import Caller  # noqa: E402

if TYPE_CHECKING:
    import boto3  # type: ignore[import-untyped] # it has no stubs

__all__ = ["boto3_session_for", "session_for"]

WAIT_SECONDS = 30.0
"""How long a thread waits for the event loop: longer than any call of authsvc takes."""

_METHOD = "authsvc"
"""Where credentials come from, as botocore logs it."""

_SIGNED = "sigv4,sigv4a"
"""Preferred over bearer tokens, which botocore takes from the environment for some services."""


class _Paths(list[str]):
    """Where models are. Each session of boto3 appends its own folder, which is there once."""

    def append(self, path: str) -> None:
        if path not in self:
            super().append(path)


class _Models(Loader):
    """The models of APIs that come with botocore: those that clients have needed, each parsed once
    for all sessions. They have nothing of a caller. For any thread."""

    def __init__(self) -> None:
        super().__init__(_Paths([Loader.BUILTIN_DATA_PATH]), include_default_search_paths=False)
        # Botocore amends a model after it has cached it.
        self._lock = threading.RLock()

    def list_available_services(self, type_name: str) -> list[str]:
        with self._lock:
            return super().list_available_services(type_name)

    def load_service_model(
        self, service_name: str, type_name: str, api_version: str | None = None
    ) -> object:
        with self._lock:
            return super().load_service_model(service_name, type_name, api_version)

    def load_data_with_path(self, name: str) -> tuple[dict[str, Any], str]:
        with self._lock:
            return super().load_data_with_path(name)


# One for the event loop, which does not wait for threads, and one for them.
_MODELS = _Models()
_MODELS_OF_THREADS = _Models()


async def session_for(caller: Caller, name: str = "", *, buckets: Sequence[str] = ()) -> AioSession:
    """A session of aiobotocore that signs with the credentials of ``caller``.

    Make its clients with ``create_client``, within the request. Their region is that of the
    credentials, unless ``region_name`` is given. They have the options that are given as
    ``config``, such as a proxy.

    Args:
        caller: the caller of the request.
        name: as in ``Caller.credentials``.
        buckets: as there.

    Raises:
        NoCredentialsError: as of ``Caller.credentials``, as of the others. A client raises them,
            too, at each request that it signs.
        AuthError: as there.
        TypeError: as there, such as for a bearer token.
        ValueError: as there.
    """
    source = _Source.checked(caller, name, buckets)
    first = await source.issue()
    session = isolated_session()
    session.register_component("data_loader", _MODELS)
    options = {**connection_options(), "auth_scheme_preference": _SIGNED}
    _sign(session, AioConfig(**options), first.region)
    session.register_component("credential_provider", _AioProvider(_AioCallerCredentials(source)))
    return session


def boto3_session_for(
    caller: Caller,
    name: str = "",
    *,
    buckets: Sequence[str] = (),
    loop: asyncio.AbstractEventLoop | None = None,
) -> boto3.Session:
    """A session of boto3 that signs with the credentials of ``caller``, for a tool in a thread.

    MCP's SDK, FastMCP and Starlette run functions that are not ``async`` in threads of anyio, which
    is where this works as it is. A session belongs to one thread; its clients may be shared.

    Args:
        caller: the caller of the request.
        name: as in ``Caller.credentials``.
        buckets: as there.
        loop: the event loop of the request, in a thread that was started otherwise, as by
            ``asyncio.to_thread``; None in one of anyio's.

    Raises:
        ImportError: boto3 is not installed.
        RuntimeError: this is the event loop's own thread, which would wait for itself; or no thread
            of anyio's, and ``loop`` is not given; or the loop is closed.
        NoCredentialsError: as of ``Caller.credentials``, as of the others. A client raises them,
            too, at each request that it signs.
        AuthError: as there.
        TypeError: as there, such as for a bearer token.
        ValueError: as there.
    """
    source = _Source.checked(caller, name, buckets)
    try:
        import boto3
    except ModuleNotFoundError as error:
        raise ImportError(
            "boto3_session_for needs boto3: install it together with aiobotocore, so that both fit "
            "one botocore",
            name=error.name,
        ) from None
    credentials = _CallerCredentials(source, _loop_of_thread() if loop is None else loop)
    region = credentials.issue().region
    session = isolated_blocking_session()
    session.register_component("data_loader", _MODELS_OF_THREADS)
    options = {**blocking_options(), "auth_scheme_preference": _SIGNED}
    _sign(session, Config(**options), region)
    session.register_component("credential_provider", _Provider(credentials))
    return boto3.Session(botocore_session=session)


@dataclass(frozen=True, slots=True)
class _Source:
    """What is asked for at each signature."""

    caller: Caller = field(repr=False)
    name: str
    buckets: tuple[str, ...]

    @classmethod
    def checked(cls, caller: Caller, name: str, buckets: Sequence[str]) -> _Source:
        """
        Raises:
            TypeError: an argument is of another type.
        """
        arguments.instance_of("caller", caller, Caller)
        return cls(caller, name, arguments.texts("buckets", buckets))

    async def issue(self) -> AwsCredentials:
        """
        Raises:
            NoCredentialsError, AuthError, TypeError, ValueError: see ``Caller.credentials``.
        """
        return await self.caller.credentials(self.name, AwsCredentials, buckets=self.buckets)


class _AioCallerCredentials(AioCredentials):
    """Credentials that are asked for whenever a request is signed, and not kept."""

    def __init__(self, source: _Source) -> None:
        super().__init__("", "", method=_METHOD)
        self._source = source

    # The parent of the asynchronous parent is not; aiobotocore awaits this.
    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override]
        return _read_only(await self._source.issue())


class _CallerCredentials(Credentials):
    """The same for threads.

    Args:
        source: what is asked for.
        loop: where it is asked.
    """

    def __init__(self, source: _Source, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__("", "", method=_METHOD)
        self._source = source
        self._loop = loop

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Those that are issued now."""
        return _read_only(self.issue())

    def issue(self) -> AwsCredentials:
        """See ``_Source.issue``.

        Raises:
            RuntimeError: this is the event loop's own thread, or the loop is closed.
            AuthError: as there; SERVICE_UNAVAILABLE when the loop does not answer.
        """
        if _is_running():
            raise RuntimeError(
                "boto3 blocks the event loop: use session_for, or call it in a thread"
            )
        asked = self._source.issue()
        try:
            future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        except RuntimeError:
            asked.close()
            raise
        try:
            return future.result(WAIT_SECONDS)
        except (TimeoutError, CancelledError):
            detail = "the event loop of the request does not answer"
            raise AuthError(Reason.SERVICE_UNAVAILABLE, detail) from None
        finally:
            future.cancel()


@dataclass(frozen=True, slots=True)
class _Provider:
    """The only source of credentials of a session."""

    credentials: _CallerCredentials = field(repr=False)

    def load_credentials(self) -> _CallerCredentials:
        """See botocore's ``CredentialResolver``."""
        return self.credentials


@dataclass(frozen=True, slots=True)
class _AioProvider:
    """The same for aiobotocore, which awaits it."""

    credentials: _AioCallerCredentials = field(repr=False)

    async def load_credentials(self) -> _AioCallerCredentials:
        """See aiobotocore's ``AioCredentialResolver``."""
        return self.credentials


def _sign(session: Session, config: Config, region: str) -> None:
    """Set what clients of a session have, where they are given nothing else."""
    session.set_default_client_config(config)
    if region:
        session.set_config_variable("region", region)


def _read_only(issued: AwsCredentials) -> ReadOnlyCredentials:
    token = issued.session_token
    return ReadOnlyCredentials(
        issued.access_key_id,
        issued.secret_access_key.reveal(),
        None if token is None else token.reveal(),
    )


def _loop_of_thread() -> asyncio.AbstractEventLoop:
    """
    Raises:
        RuntimeError: this is no thread that anyio started from an event loop of asyncio.
    """
    if _is_running():
        raise RuntimeError("boto3 blocks the event loop: use session_for, or call it in a thread")
    try:
        return from_thread.run_sync(asyncio.get_running_loop)
    except RuntimeError:
        raise RuntimeError(
            "this thread was not started by anyio: give boto3_session_for the argument loop, which "
            "is the event loop of the request"
        ) from None


def _is_running() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
