"""What operators may do: list, revoke and watch sessions, and read the status of issuers."""
