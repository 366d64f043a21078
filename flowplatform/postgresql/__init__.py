"""Django's PostgreSQL backend with one change; the engine that the settings name."""
