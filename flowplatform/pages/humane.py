"""Lengths of time as people read them, in the words of `format.js`."""

from datetime import timedelta

_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000  # in milliseconds


def duration(length: timedelta) -> str:
    """Write a length of time: "40 ms", "1.4 s", "12 s", "2 m 14 s", "3 h 5 m", "2 d 4 h"."""
    milliseconds = max(0.0, length / timedelta(milliseconds=1))
    if milliseconds < _SECOND:
        return f"{_rounded(milliseconds)} ms"
    if milliseconds < 9.95 * _SECOND:
        return f"{milliseconds / _SECOND:.1f} s"
    return _whole_seconds(_rounded(milliseconds / _SECOND) * _SECOND)


def elapsed(length: timedelta) -> str:
    """Write how long something has been going on. No fractions: it is looked at while it counts."""
    return _whole_seconds(max(0, length // timedelta(seconds=1)) * _SECOND)


def _rounded(number: float) -> int:
    """Round as JavaScript does: a half goes up."""
    return int(number + 0.5)


def _whole_seconds(milliseconds: int) -> str:
    if milliseconds < _MINUTE:
        return f"{milliseconds // _SECOND} s"
    if milliseconds < _HOUR:
        return _two_parts(milliseconds, "m", _MINUTE, "s", _SECOND)
    if milliseconds < _DAY:
        return _two_parts(milliseconds, "h", _HOUR, "m", _MINUTE)
    return _two_parts(milliseconds, "d", _DAY, "h", _HOUR)


def _two_parts(milliseconds: int, big: str, large: int, little: str, small: int) -> str:
    rest = milliseconds % large // small
    return f"{milliseconds // large} {big}" + (f" {rest} {little}" if rest else "")
