"""The last half second of a web server: answers say that their connection ends, and then it is closed.

A proxy keeps connections, and may be sending a request into one at the moment at which the server closes it. Nobody
knows then whether the request was read, so a POST is not repeated, and 502 is all that is left to say.
"""

import mmap

DRAIN_SECONDS = 0.5  # a connection that is in use has its next answer by then

_flag = mmap.mmap(-1, 1)  # shared with the processes that are forked later


def begin() -> None:
    """Have the answers of all processes end their connections from now on."""
    _flag[0] = 1


def has_begun() -> bool:
    """Say whether answers are to end their connections."""
    return _flag[0] != 0
