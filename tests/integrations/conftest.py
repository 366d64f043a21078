"""Tools that cannot be installed beside the platform: `make integrations` makes each an environment of its own."""

import os
from pathlib import Path

import pytest

from flowplatform.accounts.models import Organization
from tests.builders import make_organization, make_token
from tests.conftest import Platform
from tests.stack import ROOT

ENVIRONMENTS = ROOT / ".integrations"

# `make test` leaves them alone, also where they are installed.
collect_ignore_glob = [] if "INTEGRATIONS" in os.environ else ["test_*.py"]

Variables = dict[str, str]


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization()


@pytest.fixture
def variables(platform: Platform, organization: Organization, tmp_path: Path) -> Variables:
    """What programs need that report, with a home that is gone after the test."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "FLOWPLATFORM_URL": platform.url,
        "FLOWPLATFORM_TOKEN": make_token(organization),
        "FLOWPLATFORM_SPOOL": str(tmp_path / "spool"),
    }
