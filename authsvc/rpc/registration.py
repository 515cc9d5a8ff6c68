"""How every service is registered: its methods, by the descriptor of its proto."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import grpc
from google.protobuf.message_factory import GetMessageClass

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Service(Protocol):
    """A service's descriptor; there are two types of it in the stubs."""

    @property
    def full_name(self) -> str:
        """With the package."""
        ...

    @property
    def methods(self) -> Sequence[Any]:
        """Descriptors of its methods."""
        ...


class Coders(NamedTuple):
    """How a method's messages are decoded and encoded; None leaves them as bytes.

    Attributes:
        request: decodes a request.
        response: encodes a response.
    """

    request: Callable[[bytes], Any] | None
    response: Callable[[Any], bytes] | None


def service_handlers(
    service: Service,
    servicer: object,
    *,
    coders: Mapping[str, Coders] | None = None,
    only: Collection[str] = (),
) -> grpc.GenericRpcHandler:
    """The handlers of a service.

    They are generic ones. With those that the generated code registers one by one, grpc.aio waits
    on one task for each method at every call, whichever is called.

    Args:
        service: its descriptor.
        servicer: has a method of the same name for each of the service's.
        coders: by method, where the messages are not those of the proto.
        only: the methods that are served; empty for all.
    """
    own = coders or {}
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), own.get(method.name))
        for method in service.methods
        if not only or method.name in only
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: Any, behavior: Any, coders: Coders | None) -> Handler:  # noqa: ANN401 - gRPC's
    if coders is None:
        coders = Coders(
            GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString,
        )
    make = _MAKERS[method.client_streaming, method.server_streaming]
    return make(behavior, request_deserializer=coders.request, response_serializer=coders.response)


_MAKERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
