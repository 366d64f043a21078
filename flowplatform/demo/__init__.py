"""The demo worker: checks a folder of documents and reports every step through the public HTTP API only."""
