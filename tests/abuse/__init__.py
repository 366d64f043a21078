"""The abuse corpus: hostile bytes over raw sockets against the real servers, a row for each, in `corpus.py`."""
