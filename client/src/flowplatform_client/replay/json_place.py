"""Reading a JSON document of which nothing is certain: what does not fit is told with its place."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REQUIRED = object()


class NotFittingError(Exception):
    """Something in a document is not what it should be. The text names the place."""


def parsed_file(path: Path) -> Any:
    """Return what a JSON file holds. Raises `OSError` for what cannot be read, `ValueError` for what is no JSON."""
    if path.exists() and not path.is_file():  # reading a pipe or a device might never end
        raise OSError(None, "it is not a file")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@dataclass(frozen=True)
class Place:
    """A value and where it is, written as people do: workflow.specification.tasks[3].id."""

    value: Any
    name: str = ""

    def field(self, name: str, default: Any = _REQUIRED) -> "Place":
        """Return a field of an object."""
        if not isinstance(self.value, dict):
            raise self._wrong("Input should be an object")
        inner = Place(self.value.get(name, default), f"{self.name}.{name}".removeprefix("."))
        if inner.value is _REQUIRED:
            raise inner._wrong("Field required")
        return inner

    def items(self, least: int = 0, most: float = math.inf) -> "list[Place]":
        """Return the items of a list."""
        if not isinstance(self.value, list):
            raise self._wrong("Input should be a valid array")
        if len(self.value) < least:
            raise self._wrong(f"List should have at least {least} item{'s' * (least > 1)}")
        if len(self.value) > most:
            raise self._wrong(f"List should have at most {most} items, not {len(self.value)}")
        return [Place(item, f"{self.name}[{index}]") for index, item in enumerate(self.value)]

    def text(self, least: int = 0, most: float = math.inf) -> str:
        """Return a text that a JSON body can carry."""
        if not isinstance(self.value, str):
            raise self._wrong("Input should be a valid string")
        if len(self.value) < least:
            raise self._wrong(f"String should have at least {least} character{'s' * (least > 1)}")
        if len(self.value) > most:
            raise self._wrong(f"String should have at most {most} characters")
        if "\0" in self.value:
            raise self._wrong("contains a NUL character")
        return self.value

    def number_or_none(self, least: float, most: float) -> float | None:
        """Return a number, or `None` where there is null or nothing."""
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or math.isnan(self.value):
            raise self._wrong("Input should be a valid number")
        if self.value < least:
            raise self._wrong(f"Input should be greater than or equal to {least}")
        if self.value > most:
            raise self._wrong(f"Input should be less than or equal to {most:g}")
        return float(self.value)

    def must_be(self, value: object) -> None:
        """Refuse every other value."""
        if self.value != value:
            raise self._wrong(f"Input should be {value!r}")

    def _wrong(self, message: str) -> NotFittingError:
        return NotFittingError(f"{self.name or 'the top level'}: {message}")
