"""Between ``authsvc.domain`` and the messages of ``authsvc.v1``, both ways."""
