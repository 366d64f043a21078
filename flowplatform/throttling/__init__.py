"""How much somebody may ask for: allowances per window of time, shared by all processes, spent without asking for each.

`allowances.py` spends, `store.py` shares through Valkey, `requests.py` and `sockets.py` say who spends what. The rates
are `RATE_LIMITS` of the settings.
"""
