"""Fixtures: both clients on the real server, each with an organization of its own."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flowplatform_client import AsyncFlowPlatform, FlowPlatform
from flowplatform_client.pages import AsyncPages, Pages

from flowplatform.accounts.models import Organization
from tests.builders import make_organization, make_token
from tests.conftest import Platform

Question = Callable[[Any], Any]


class Asker:
    """Asks the same of either client: `ask(lambda platform: platform.flows.get(id))`. Lists are read to their end."""

    def __init__(self, kind: str, url: str, token: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.platform = (FlowPlatform if kind == "sync" else AsyncFlowPlatform)(url, token, **options)

    def __call__(self, question: Question) -> Any:
        return self._loop.run_until_complete(self._answer(question))

    def close(self) -> None:
        self(lambda platform: platform.close())
        self._loop.close()

    async def _answer(self, question: Question) -> Any:
        answer = question(self.platform)
        if isinstance(answer, AsyncPages):
            return [row async for row in answer]
        if isinstance(answer, Pages):
            return [*answer]
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization()


@pytest.fixture
def ask(platform: Platform, organization: Organization, kind: str) -> Iterator[Asker]:
    asker = Asker(kind, platform.url, make_token(organization))
    yield asker
    asker.close()


@pytest.fixture
def client(platform: Platform, organization: Organization) -> Iterator[FlowPlatform]:
    with FlowPlatform(platform.url, make_token(organization)) as made:
        yield made
