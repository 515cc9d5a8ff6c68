"""What operators may do: list, revoke and watch sessions, and see issuers."""
