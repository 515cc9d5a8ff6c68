"""The gRPC services: admit calls, translate messages and errors. Decide nothing."""
