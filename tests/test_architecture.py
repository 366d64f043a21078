"""The arrows of docs/architecture.md: which part may import which."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the top down; a part may import from those below it, never from those above.
LAYERS = (
    "flowplatform",
    "flowplatform.pages",
    "tags",
    "executions",
    "notifications",
    "flowplatform.idempotency",
    "flowplatform.audit.admin",  # names organizations and filters by them; the record itself knows nothing of accounts
    "flowplatform.accounts",
    "flowplatform.audit",
    "foundation",
)
# Modules of flowplatform that everybody may use: they know no models and import nothing from apps.
FOUNDATION = frozenset(
    f"flowplatform.{name}"
    for name in (
        "admin_lists",
        "background",
        "bodies",
        "current_request",
        "cursors",
        "draining",
        "embedded",
        "encoding",
        "env",
        "errors",
        "fields",
        "flow_control",
        "gateway",
        "ids",
        "logfiles",
        "logs",
        "metrics",
        "monthly",
        "openapi",
        "parsers",
        "postgresql",
        "processes",
        "progress",
        "readonly_admin",
        "renderers",
        "role",
        "schemas",
        "telemetry",
        "tenancy",
        "throttling",
        "transactions",
        "version",
    )
)


def layer_of(module: str) -> str | None:
    """Return the layer of a module; `None` for what is not ours."""
    if any(module == name or module.startswith(f"{name}.") for name in FOUNDATION):
        return "foundation"
    candidates = [name for name in LAYERS if module == name or module.startswith(f"{name}.")]
    return max(candidates, key=len, default=None)


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("flowplatform", "tags", "executions", "notifications"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            # Commands are run by hand: they belong to the composition root wherever their app keeps them.
            if "migrations" not in parts and "management" not in parts:
                yield ".".join(parts).removesuffix(".__init__"), path


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("module", "path"), [pytest.param(*item, id=item[0]) for item in modules()])
def test_imports_point_down(module: str, path: Path) -> None:
    mine = layer_of(module)
    assert mine is not None
    upwards = [
        name
        for name in imports_of(path)
        if (other := layer_of(name)) is not None and LAYERS.index(other) < LAYERS.index(mine)
    ]
    assert not upwards, f"{module} imports from above: {upwards}"


def test_the_client_knows_nothing_of_the_server() -> None:
    """It is installed elsewhere, by those who report."""
    sources = ROOT / "client" / "src" / "flowplatform_client"
    ours = {path.name: [name for name in imports_of(path) if layer_of(name)] for path in sources.rglob("*.py")}
    assert len(ours) > 10
    assert not {name: imported for name, imported in ours.items() if imported}


def test_the_others_know_one_name_of_notifications() -> None:
    used = {
        name
        for module, path in modules()
        if layer_of(module) in ("tags", "executions")
        for name in imports_of(path)
        if name.split(".")[0] == "notifications"
    }
    assert used == {"notifications.publish"}


def test_nobody_connects_signal_receivers_but_where_a_library_offers_nothing_else() -> None:
    signals = re.compile(r"django\.dispatch|\.signals import|\bimport signals")
    connecting = {module for module, path in modules() if signals.search(path.read_text())}
    assert connecting == {"flowplatform.audit.apps", "flowplatform.audit.sign_ins", "flowplatform.celery"}
