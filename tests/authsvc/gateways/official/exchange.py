"""Checks by Envoy's official stubs, in an environment that has them and nothing of authsvc.

``exchange.py ADDRESS`` reads a list of requests from standard input, JSON, and writes what came of
each: the response as the official stubs read it, and whether they encode it to the same bytes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf.json_format import MessageToDict, ParseDict


def exchanged(stub: Any, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - generated
    """What comes of one check, given as proto JSON."""
    message = ParseDict(request, external_auth_pb2.CheckRequest())
    response = stub.Check(message, timeout=30)
    encoded = response.SerializeToString(deterministic=True)
    response.DiscardUnknownFields()
    return {
        "response": MessageToDict(response),
        "is_known": response.SerializeToString(deterministic=True) == encoded,
    }


def main() -> None:
    """See the module."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = external_auth_pb2_grpc.AuthorizationStub(channel)
        answers = [exchanged(stub, request) for request in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
