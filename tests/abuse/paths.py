"""Paths and queries that lead nowhere."""

from tests.abuse.attack import Attack, bearer, head

NO_ROUTE = "no route knows it, and no file is served but those that were found at start"

_API = {
    "/api/../../etc/passwd": "404 | 404 page",
    "/api/%2e%2e/%2e%2e/etc/passwd": "404 | 404 page",
    "/api/..%2f..%2fetc/passwd": "404",
    "/api//flows": "404",
    "/api/flows/": "404",
    "/api/flows/%00": "422",
    "/api/flows/%ff%fe": "422",
    "/api/flows/%c0%ae%c0%ae": "422",
    "/api/flows/%ed%a0%80": "422",
    "/api/flows/%": "422",
    "/api/flows/%zz": "422",
    "/api/flows/" + "9" * 5_000: "422",
    "/api/flows/;a=b": "422",
    "/api/flows/{}": "422 | 400 bare",
    "/api/flows#fragment": "200 | 400 bare | 404",
    "/api/" + "a/" * 3_000: "404",
    "/api/flows?limit=%00": "422 | 200",
    "/api/flows?cursor=%ff%00": "422 | 200",
    "/api/flows?" + "&".join(["a=b"] * 2_000): "200 | 400",
    "/api/flow-executions?flow_id=%00": "422",
    "/api/flow-executions?flow_id=" + "a" * 8_000: "422",
    "/api/task-tags?flow_execution_id=%ed%a0%80": "422",
}
_PAGES = {
    "/static/../flowplatform/settings.py": "404 page",
    "/static/%2e%2e/%2e%2e/etc/passwd": "404 page",
    "/static/..%5c..%5cwindows": "404 page",
    "/static/%00": "404 page",
    "/static/admin/css": "404 page",
    "//example.com/": "404 page",
    "//example.com/admin": "404 page",
    "/\\example.com": "404 page | 400 bare",
    "/admin/%0d%0aX-Odd:%201": "404 page | 302 bare | 302",
    "/.git/config": "404 page",
    "/%ff": "404 page",
}

ATTACKS = [
    *(
        Attack(f"{path[:48]}", lambda scene, path=path: [head("GET", path, bearer(scene))], answer, NO_ROUTE)
        for path, answer in {**_API, **_PAGES}.items()
    ),
    Attack(
        "sign-in that leads elsewhere",
        lambda scene: [head("GET", "/login/?next=//example.com/%0d%0aX-Odd:1")],
        "200 page",
        "only addresses of our own are followed (Django)",
    ),
]
