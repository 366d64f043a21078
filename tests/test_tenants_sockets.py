"""A socket tells nobody whether another organization has a flow, or is there: `tests/test_tenants.py` for `/ws/`."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from flowplatform.accounts.models import SCOPES
from tests.builders import make_flow, make_organization
from tests.cast import Asker, service, signed_in
from tests.conftest import Platform

pytestmark = pytest.mark.usefixtures("committed")


def test_a_socket_tells_nobody_whether_there_is_such_a_flow_or_organization(platform: Platform) -> None:
    ours, theirs = (make_organization(f"{name}-{uuid4().hex}") for name in ("ours", "theirs"))
    own, foreign = (make_flow(organization) for organization in (ours, theirs))
    askers = {
        "nobody": (Asker(), 4401),
        "who belongs to no organization": (signed_in(None, f"nobody-{uuid4().hex}"), 4404),
        **{role: (signed_in(ours, role), 4404) for role in ("viewer", "member", "admin")},
        **{scope: (service(ours, [scope]), 4404 if scope == "read" else 4401) for scope in SCOPES},
        "service": (service(ours, SCOPES), 4404),
    }
    system = service(None, SCOPES)

    async def story() -> None:
        for kind, known, mine in (("flows", foreign.pk, own.pk), ("organizations", theirs.pk, ours.pk)):
            for who, (asker, code) in askers.items():
                refusals = [await refusal_of(platform, f"/ws/{kind}/{one}", asker) for one in (known, uuid4())]
                assert refusals[0] == refusals[1], f"{who} can tell what is theirs by /ws/{kind}/"
                assert refusals[0][0] == code, who
                opened = await refusal_of(platform, f"/ws/{kind}/{mine}", asker)
                is_reader = code == 4404 and not who.startswith("who")
                assert opened[0] == (None if is_reader else code), who
            assert (await refusal_of(platform, f"/ws/{kind}/{known}", system))[0] is None

    asyncio.run(story())


async def refusal_of(platform: Platform, path: str, asker: Asker) -> tuple[Any, ...]:
    """Return everything that a client receives who is refused; the code is `None` for one who is greeted."""
    cookies = "; ".join(f"{name}={value}" for name, value in asker.cookies.items())
    headers = {**asker.headers, **({"Cookie": cookies, "Origin": platform.url} if cookies else {})}
    async with connect(platform.ws_url + path, additional_headers=headers, proxy=None) as socket:
        assert socket.response is not None
        answered = sorted(name for name, _ in socket.response.headers.raw_items())
        try:
            await asyncio.wait_for(socket.recv(), 10)
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code, closed.rcvd and closed.rcvd.reason, answered
        return None, None, answered
