"""The gRPC services: admission, messages to values, errors to statuses. Decides nothing."""
