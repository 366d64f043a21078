"""What the platform consists of, and how it is told: the bill of materials, and the look-up of vulnerabilities."""

import hashlib
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy import audit
from tests.stack import ROOT

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    done = subprocess.run([sys.executable, "deploy/sbom.py"], cwd=ROOT, check=True, capture_output=True)
    made: Json = json.loads(done.stdout)
    return made


def locked() -> dict[tuple[str, str], set[str]]:
    """Return the hashes of each package and version of the lock, read once more and in another way."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in (ROOT / "requirements.txt").read_text().replace("\\\n", " ").splitlines():
        if line[:1].isalnum():
            name, version = line.split()[0].split("==")
            name = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
            found[name, version] = set(re.findall(r"--hash=sha256:(\w{64})", line))
    return found


def packages(document: Json) -> dict[tuple[str, str], Json]:
    """Return the packages of Python in the document."""
    python = [one for one in document["components"] if one["purl"].startswith("pkg:pypi/")]
    return {(re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"]): one for one in python}


# --- The bill of materials ------------------------------------------------------------------------------------------


def test_it_is_valid_by_the_schema_of_cyclonedx(document: Json) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None


def test_it_has_every_package_of_the_lock_with_version_and_hashes_and_no_other(document: Json) -> None:
    found = packages(document)
    assert len(found) > 50
    hashes = {
        key: {each["content"] for reference in one["externalReferences"] for each in reference.get("hashes", [])}
        for key, one in found.items()
    }
    assert hashes == locked()


def test_it_has_the_license_of_every_package_that_is_installed(document: Json) -> None:
    without = {name for (name, version), one in packages(document).items() if "licenses" not in one}
    unknown = {name for name in without if is_installed(name, packages(document))}
    assert unknown == set(), "what do these say of their license?"


def is_installed(name: str, found: dict[tuple[str, str], Json]) -> bool:
    try:
        return (name, metadata.version(name)) in found and "licenses" not in found[name, metadata.version(name)]
    except metadata.PackageNotFoundError:
        return False


def test_it_tells_who_needs_whom(document: Json) -> None:
    needs = {one["ref"]: set(one["dependsOn"]) for one in document["dependencies"]}
    everybody = {one["bom-ref"] for one in document["components"]}
    root = document["metadata"]["component"]["bom-ref"]
    assert set(needs) == {root, *everybody}
    reached, waiting = set(), [root]
    while waiting:
        new = needs[waiting.pop()] - reached
        reached |= new
        waiting += new
    assert reached == everybody, "nobody needs what is left"
    ours = {re.split(r"[~<>=\[]", line)[0].lower().replace("_", "-") for line in wanted()}
    assert ours == {ref.split("/")[1].split("@")[0] for ref in needs[root] if "pypi" in ref}


def wanted() -> list[str]:
    lines = (ROOT / "requirements.in").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_it_has_the_scripts_of_others_as_they_are_shipped(document: Json) -> None:
    scripts = [one for one in document["components"] if one["purl"].startswith("pkg:npm/")]
    static = ROOT / "flowplatform" / "static"
    notes = "".join((static / name).read_text() for name in ("vendor/README.md", "unfold/js/alpine/ALPINE-CSP.md"))
    assert {one["properties"][0]["value"] for one in scripts} == {str(path.relative_to(ROOT)) for path in shipped()}
    for one in scripts:
        (digest,) = [each["content"] for each in one["hashes"]]
        assert digest == hashlib.sha256((ROOT / one["properties"][0]["value"]).read_bytes()).hexdigest()
        assert f"{one['group']}/{one['name']}" in notes
        assert one["version"] in notes
        assert one["licenses"] == [{"license": {"id": "MIT"}}]


def shipped() -> list[Path]:
    """Return the scripts of others among the static files."""
    static = ROOT / "flowplatform" / "static"
    return [path for folder in ("vendor", "unfold") for path in (static / folder).rglob("*.js")]


# --- Known vulnerabilities ------------------------------------------------------------------------------------------


def answer(*packages: Json) -> audit.Result:
    return audit.read(list(packages))


def test_what_is_known_of_a_package_is_told() -> None:
    vulnerable = {"name": "rich", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}
    result = answer(vulnerable, {"name": "six", "version": "1", "vulns": []})
    assert (result.checked, result.unchecked) == (2, "")
    assert [*map(str, result.findings)] == ["rich 1.0: PYSEC-1, repaired in 1.1, 2.0"]


def test_a_package_that_was_not_looked_up_is_not_one_without_vulnerabilities() -> None:
    result = answer({"name": "rich", "skip_reason": "not found"}, {"name": "six", "version": "1", "vulns": []})
    assert result.checked == 1
    assert result.unchecked == "the service knows nothing of rich"


@pytest.mark.parametrize(
    ("results", "strict", "lenient"),
    [
        ([audit.Result(9, [], "")], 0, 0),
        ([audit.Result(9, [], ""), audit.Result(0, [], "away")], 2, 0),
        ([audit.Result(0, [], "away"), audit.Result(9, [audit.Finding("rich 1.0", "PYSEC-1", "")], "")], 1, 1),
    ],
)
def test_only_what_was_looked_up_and_is_clean_is_a_success(
    results: list[audit.Result], strict: int, lenient: int
) -> None:
    assert audit.exit_code(results, allow_unchecked=False) == strict
    assert audit.exit_code(results, allow_unchecked=True) == lenient


def test_without_the_service_it_says_so(tmp_path: Path) -> None:
    """Run pip-audit for real, where it reaches nobody."""
    lock = tmp_path / "lock.txt"
    lock.write_text(f"flowplatform-is-on-no-index==1.0 --hash=sha256:{'0' * 64}\n")
    nowhere = {"PATH": "/usr/bin", "HTTPS_PROXY": "http://127.0.0.1:1", "HOME": str(tmp_path)}
    command = [sys.executable, "deploy/audit.py", "--lock", lock]
    done = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "lock.txt: 0 packages looked up" in done.stdout
    assert "NOT CHECKED: " in done.stdout
