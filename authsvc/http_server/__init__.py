"""The HTTP server of the adapter and of the console: uvicorn with httptools, and with limits.

uvicorn has no time limit on headers or on unread answers, and no limit on connections that leaves
good ones alone. What is here adds them, and the strictness about framing that httptools leaves to
its users.
"""
