"""`python deploy/sbom.py`: print what the platform consists of as a CycloneDX document (a software bill of materials).

Python's packages come from the lock, with its hashes, by cyclonedx-py; what it does not tell is added: who needs whom
(from the lock's own comments), licenses (from the installed packages), and the scripts of others that we ship.
"""

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.txt"
SPEC_VERSION = "1.6"

Json = dict[str, Any]

_PACKAGE = re.compile(r"^([\w.-]+)(?:\[[^]]*])?==([^\s;\\]+)", re.MULTILINE)
_VIA = re.compile(r"^ +# (?:via )? *(?!via$)(-r requirements\.in|[\w.-]+)$", re.MULTILINE)
_OURS = "-r requirements.in"  # who needs what we name ourselves
_SHORT = 60  # a longer text in the field of the license is the license itself


def main() -> int:
    """Print the document."""
    json.dump(document(), sys.stdout, indent=2, sort_keys=True)
    print()
    return 0


def document() -> Json:
    """Return the document of the lock."""
    made = _of_lock()
    for component in made["components"]:
        component.pop("description", None)  # the lines of the lock
        component["bom-ref"] = component["purl"]
        if licenses := _licenses(component["name"], component["version"]):
            component["licenses"] = licenses
    root = made["metadata"]["component"]["bom-ref"]
    scripts = list(_scripts())
    made["dependencies"] = _dependencies(root, made["components"], scripts)
    made["components"] += scripts
    return made


def _of_lock() -> Json:
    tool = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    options = ["--no-validate", "--spec-version", SPEC_VERSION, "--pyproject", str(ROOT / "pyproject.toml")]
    # It warns that nothing was validated: the test does that, when the document is complete.
    done = subprocess.run([*tool, *options, str(LOCK)], check=True, capture_output=True)
    found: Json = json.loads(done.stdout)
    return found


def _licenses(name: str, version: str) -> list[Json]:
    """Return what an installed package says of its license; nothing if it is not here, or is of another version."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if package.version != version:
        return []
    said = {name: package.metadata.get_all(name) or [] for name in ("License-Expression", "License", "Classifier")}
    if said["License-Expression"]:
        return [{"expression": said["License-Expression"][0]}]
    classifiers = [text for text in said["Classifier"] if text.startswith("License :: OSI Approved :: ")]
    names = [text.rpartition(" :: ")[2] for text in classifiers]
    names = names or [text for text in said["License"] if 0 < len(text) <= _SHORT]
    return [{"license": {"name": name}} for name in names]


def _dependencies(root: str, packages: list[Json], scripts: list[Json]) -> list[Json]:
    """Return who needs whom. A package that the lock has in two versions is one or the other, by Python's version."""
    refs = {(_normal(one["name"]), one["version"]): one["bom-ref"] for one in packages}
    named: dict[str, list[str]] = {_OURS: [root]}
    for (name, _), ref in refs.items():
        named.setdefault(name, []).append(ref)
    needs: dict[str, set[str]] = {ref: set() for ref in (root, *refs.values(), *(one["bom-ref"] for one in scripts))}
    for package, who in needed_by():
        for parent in who:
            for ref in named[parent]:
                needs[ref].add(refs[package])
    needs[root] |= {one["bom-ref"] for one in scripts}
    return [{"ref": ref, "dependsOn": sorted(needed)} for ref, needed in sorted(needs.items())]


def needed_by() -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Yield the name and version of each package of the lock, and the names of those that need it."""
    text = LOCK.read_text()
    found = [*_PACKAGE.finditer(text)]
    for one, following in zip(found, [*found[1:], None], strict=True):
        comments = text[one.end() : following.start() if following else None]
        who = [name if name == _OURS else _normal(name) for name in _VIA.findall(comments)]
        yield (_normal(one[1]), one[2]), who


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- Scripts of others ----------------------------------------------------------------------------------------------


def _scripts() -> Iterator[Json]:
    static = ROOT / "flowplatform" / "static"
    graphlib = _script("@dagrejs/graphlib", "4.0.6")  # inside the file of dagre
    yield {**_script("@dagrejs/dagre", "3.1.3", static / "vendor" / "dagre" / "dagre.esm.js"), "components": [graphlib]}
    yield _script("@alpinejs/csp", "3.17.4", static / "unfold" / "js" / "alpine" / "alpine.js")


def _script(name: str, version: str, file: Path | None = None) -> Json:
    group, _, short = name.partition("/")
    purl = f"pkg:npm/{group.replace('@', '%40')}/{short}@{version}"
    made: Json = {"type": "library", "group": group, "name": short, "version": version, "purl": purl, "bom-ref": purl}
    made["licenses"] = [{"license": {"id": "MIT"}}]
    if file:
        made["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]
        made["properties"] = [{"name": "flowplatform:file", "value": str(file.relative_to(ROOT))}]
    return made


if __name__ == "__main__":
    sys.exit(main())
