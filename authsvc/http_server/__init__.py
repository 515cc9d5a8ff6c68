"""The HTTP server of the adapter and of the console: uvicorn with httptools, and with limits.

uvicorn limits neither the time for a request's headers nor the time for reading a response, and its
limit on connections rejects well-behaved clients too. This package adds those limits, and the
checks of message framing that httptools leaves to its users.
"""
