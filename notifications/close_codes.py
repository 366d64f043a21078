"""Why the platform closes a socket: the close codes of the contract."""

NOT_AUTHENTICATED = 4401  # no valid credential, or it ended
UNKNOWN = 4404  # nothing of that name for this client, or not any more
TOO_SLOW = 4408
TOO_MANY = 4429
RESTART = 1012
