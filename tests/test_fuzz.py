"""The API against its own document: every operation, with data that fits its schema and data that does not.

schemathesis makes the requests out of openapi.yaml: the documented examples, every boundary of every field, and random
data. Real ids are put into them (`tests/cast.py`), so that they get past the first 404. An example and a boundary are
sent by one asker who may do it, random data by everybody. What a request writes is rolled back: all meet the same rows.

`make fuzz` does the same with other data at every run, and more of it.
"""

import random
from collections import Counter, defaultdict
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, settings
from schemathesis import Case, Response

from tests.cast import FUZZ_EXAMPLES, Asker, Cast, Scene, put, rolled_back
from tests.contract import check_form, problems_of

CONFIG = schemathesis.Config.from_dict(
    {
        # NUL characters are refused everywhere, which schemas do not say: tests/test_odd_requests.py sends them.
        "generation": {"with-security-parameters": False, "allow-x00": False},
        "checks": {
            # A task name that the flow version does not define and a cursor of another list are 400.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "409"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "409", "413", "415", "422"]},
            # Ours asks more: without a credential every operation answers 401 to everything.
            "ignored_auth": {"enabled": False},
        },
    }
)
schema = schemathesis.openapi.from_path(Path(__file__).resolve().parent.parent / "openapi.yaml", config=CONFIG)

APPLICATION = get_wsgi_application()

READERS = {"viewer", "member", "member without CSRF token", "admin", "read", "service", "system", "stranger"}
PEOPLE = {"member", "admin"}
SERVICES = {"service", "system", "stranger"}
WRITERS = {
    "report_task_statuses": {"status:write"} | SERVICES,
    "set_flow_execution_status": {"executions:write"} | SERVICES,
    "report_task_execution": {"executions:write"} | SERVICES,
    "set_task_output": {"executions:write"} | SERVICES,
    "change_task_tags": {"tags:write"} | PEOPLE | SERVICES,
}
# What no schema can say: such a 422 may be the answer to data that fits.
BEYOND_SCHEMAS = {"read_only", "not_canonical", "too_deep", "idempotency_key_reused"}

answered: dict[str, Counter[int]] = defaultdict(Counter)


@schema.parametrize()
@settings(
    max_examples=FUZZ_EXAMPLES or 4,
    derandomize=not FUZZ_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_an_operation_keeps_to_its_document(case: Case, cast: Cast) -> None:
    chance = random.Random(repr(case))
    is_random = case.meta is not None and case.meta.phase.name == "fuzzing"
    for name in cast.askers if is_random else [chance.choice(sorted(may(case)))]:
        request = copy_of(case)
        put_into(request, cast.scenes, chance)
        response = send(request, cast.askers[name])
        check(request, response, name, cast)
        if case.method == case.operation.method.upper():
            answered[case.operation.label][response.status_code] += 1


def may(case: Case) -> set[str]:
    """Return who may do what an operation does, with the rows of their own organization."""
    if case.operation.method == "get":
        return READERS
    operation_id = case.operation.definition.raw["operationId"]
    return WRITERS.get(operation_id, {"executions:write"} | PEOPLE | SERVICES)


def copy_of(case: Case) -> Case:
    """Return the same request, for another asker and with other values in it."""
    return Case(
        case.operation,
        case.method,
        case.path,
        path_parameters=dict(case.path_parameters),
        headers=case.headers.copy(),
        cookies=dict(case.cookies),
        query=deepcopy(case.query),
        body=deepcopy(case.body),
        media_type=case.media_type,
        meta=deepcopy(case.meta),
    )


def put_into(case: Case, scenes: list[Scene], chance: random.Random) -> None:
    """Put the values of a scene into a request, in the place of those that have the same form; one time in ten none."""
    scene = chance.choice([*scenes, *scenes[:2] * 3])
    if chance.random() < 0.1:
        return
    cursor = scene.cursors.get(case.path.rpartition("/")[2])
    values = {**scene.values, "cursor": cursor} if cursor else scene.values
    for container in (case.path_parameters, case.query, case.headers):
        for name, value in list(container.items()):
            container[name] = put(name, value, values)
    case.body = put("", case.body, values)


def send(case: Case, asker: Asker) -> Response:
    """Send a request to the real application."""
    with rolled_back():
        return case.call(app=APPLICATION, headers=asker.headers, cookies=asker.cookies)


def check(case: Case, response: Response, name: str, cast: Cast) -> None:
    """Hold an answer to the document, to the forms of errors, and to what the asker may do and see."""
    headers = {header: ",".join(values) for header, values in response.headers.items()}
    check_form(response.status_code, headers, response.content)
    case.validate_response(response, excluded_checks=beyond_schemas(response))
    if name in ("nobody", "forger"):
        assert response.status_code in (401, 404), "no credential, and another answer than 401"
    if 200 <= response.status_code < 300:
        assert name in may(case), f"{name} may not do this"
        assert name != "stranger" or str(cast.organization.pk).encode() not in response.content


def beyond_schemas(response: Response) -> list[Any]:
    """Return the checks that ask too much here: of rules that no schema can say, and of parameters that are empty."""
    checks = []
    if response.status_code == 422 and {problem["type"] for problem in problems_of(response.content)} <= BEYOND_SCHEMAS:
        checks.append(schemathesis.checks.positive_data_acceptance)
    sent = parse_qsl(urlsplit(response.request.url).query, keep_blank_values=True)
    if any(value == "" for _, value in sent):  # given but empty counts as absent
        checks.append(schemathesis.checks.negative_data_rejection)
    return checks


def test_every_operation_was_reached() -> None:
    """Without this, data that never gets past the first refusal would look like success."""
    unreached = {label for label, statuses in answered.items() if not any(200 <= code < 300 for code in statuses)}
    assert not unreached
