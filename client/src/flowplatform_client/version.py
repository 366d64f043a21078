"""The version of this package; clients tell it to the server."""

__version__ = "0.1.0"
