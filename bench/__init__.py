"""Load tests of authsvc that stand by themselves: real processes, real sockets, loopback."""

import os

# Children are executed, not forked; gRPC would warn at each one. It reads this when imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
