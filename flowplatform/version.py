"""The version of the platform: of its API document, and of the processes that tell their figures."""

VERSION = "0.1.0"
