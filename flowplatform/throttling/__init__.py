"""How much somebody may ask for: allowances per window of time, shared by all processes, spent without asking for each.

`allowances.py` spends, `store.py` shares through Valkey, `requests.py` keeps what a request spent. Who spends what is
in `flowplatform/accounts/throttles.py`, the rates are `RATE_LIMITS` of the settings.
"""
