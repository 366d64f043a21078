"""Django's PostgreSQL backend with a few changes (`base.py`); the engine that the settings name."""
