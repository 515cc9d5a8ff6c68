"""The composition root: settings, and the server that is built from them."""
