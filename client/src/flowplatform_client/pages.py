"""Lists of any length: an iterator over their rows that asks for the next page when it is needed."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flowplatform_client.calls import Call

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Page(Generic[T_co]):
    """Some rows of a list, and the request for those after them."""

    rows: Sequence[T_co]
    next: "Call[Page[T_co]] | None"


def changed(call: Call[Page[T]], change: Callable[[T], U]) -> Call[Page[U]]:
    """Return the same list with its rows changed."""

    def page(found: Page[T]) -> Page[U]:
        return Page([change(row) for row in found.rows], None if found.next is None else changed(found.next, change))

    return call.then(page)


class Sender(Protocol):
    """What sends a call and waits for its result."""

    def send(self, call: Call[T]) -> T:
        """Return the result of a call."""


class AsyncSender(Protocol):
    """What sends a call, for asyncio."""

    async def send(self, call: Call[T]) -> T:
        """Return the result of a call."""


class Pages(Generic[T_co]):
    """The rows of a list, each once. Iterating again asks again."""

    def __init__(self, sender: Sender, first: Call[Page[T_co]]) -> None:
        self._sender = sender
        self._first = first

    def __iter__(self) -> Iterator[T_co]:
        for page in self.pages():
            yield from page

    def pages(self) -> Iterator[Sequence[T_co]]:
        """Yield the rows page by page, as they come."""
        call: Call[Page[T_co]] | None = self._first
        while call is not None:
            page = self._sender.send(call)
            yield page.rows
            call = page.next

    def first(self) -> T_co | None:
        """Return the first row, `None` of an empty list."""
        return next(iter(self), None)


class AsyncPages(Generic[T_co]):
    """The rows of a list, each once, for asyncio. Iterating again asks again."""

    def __init__(self, sender: AsyncSender, first: Call[Page[T_co]]) -> None:
        self._sender = sender
        self._first = first

    async def __aiter__(self) -> AsyncIterator[T_co]:
        async for page in self.pages():
            for row in page:
                yield row

    async def pages(self) -> AsyncIterator[Sequence[T_co]]:
        """Yield the rows page by page, as they come."""
        call: Call[Page[T_co]] | None = self._first
        while call is not None:
            page = await self._sender.send(call)
            yield page.rows
            call = page.next

    async def first(self) -> T_co | None:
        """Return the first row, `None` of an empty list."""
        async for row in self:
            return row
        return None
