"""Whoever guesses passwords is locked out, where they are and for a while; the owner of the name is not."""

from uuid import uuid4

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth import hashers
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import expect
from pytest_django import Settings

from flowplatform.accounts.models import Organization, User
from tests.accessibility import check_accessibility
from tests.browser import Tenant, Visit
from tests.builders import PASSWORD, error_of, make_member
from tests.test_admin import staff_who_may, text

LOGIN, ADMIN_LOGIN, ATTEMPTS = "/login/", "/admin/login/", "/admin/axes/accessattempt/"
LIMIT = settings.AXES_FAILURE_LIMIT
HERE = "192.0.2.1"

both = pytest.mark.parametrize("path", [LOGIN, ADMIN_LOGIN])


class CountingHasher(hashers.MD5PasswordHasher):
    """A quick hash that counts how often somebody waits for it."""

    algorithm = "counting"
    calls = 0

    def encode(self, password: str, salt: str) -> str:
        CountingHasher.calls += 1
        encoded: str = super().encode(password, salt)
        return encoded


@pytest.fixture(autouse=True)
def quick_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["tests.test_lockout.CountingHasher"]


@pytest.fixture
def person(organization: Organization) -> User:
    return make_member(organization, username=f"vera-{uuid4()}")


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="staff", is_staff=True, is_superuser=True))
    return client


def sign_in(name: str, password: str, path: str = LOGIN, address: str = HERE, **headers: str) -> HttpResponse:
    client = Client(REMOTE_ADDR=address)
    answer = client.post(path, {"username": name, "password": password}, headers=headers)
    assert isinstance(answer, HttpResponse)
    return answer


def lock_out(name: str, path: str = LOGIN, address: str = HERE) -> HttpResponse:
    for _ in range(LIMIT - 1):
        assert sign_in(name, "wrong", path, address).status_code == 200
    return sign_in(name, "wrong", path, address)


def fail_before(name: str, address: str, times: int) -> None:
    """Have a name failed so often, without the time that it takes."""
    now = timezone.now()
    AccessAttempt.objects.create(username=name, ip_address=address, failures_since_start=times, attempt_time=now)


def is_locked(name: str, address: str = HERE) -> bool:
    return sign_in(name, PASSWORD, address=address).status_code == 429


@both
def test_some_failures_lock_a_name_out_even_with_the_right_password(person: User, path: str) -> None:
    assert lock_out(person.username, path).status_code == 429
    refused = sign_in(person.username, PASSWORD, path)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= settings.AXES_COOLOFF_TIME.total_seconds()
    assert refused["Content-Type"].startswith("text/html")
    assert "Try again in 15 minutes" in text(refused)
    assert settings.SESSION_COOKIE_NAME not in refused.cookies


def test_failures_at_the_one_form_count_at_the_other(person: User) -> None:
    lock_out(person.username, LOGIN)
    assert sign_in(person.username, PASSWORD, ADMIN_LOGIN).status_code == 429


def test_a_program_is_told_in_json(person: User) -> None:
    lock_out(person.username)
    refused = sign_in(person.username, PASSWORD, Accept="application/json")
    assert refused.status_code == 429
    assert error_of(refused)["code"] == "rate_limited"
    assert int(refused["Retry-After"]) > 0


def test_a_stranger_does_not_lock_the_owner_of_a_name_out_elsewhere(person: User) -> None:
    lock_out(person.username, address="203.0.113.66")
    assert is_locked(person.username, "203.0.113.66")
    assert sign_in(person.username, PASSWORD, address=HERE).status_code == 302


def test_others_at_the_same_address_sign_in_as_before(person: User, organization: Organization) -> None:
    other = make_member(organization)
    lock_out(person.username)
    assert sign_in(other.username, PASSWORD).status_code == 302


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "User-Agent"])
def test_no_header_makes_another_of_who_fails(person: User, header: str) -> None:
    for number in range(LIMIT):
        sign_in(person.username, "wrong", **{header: f"192.0.2.{number}"})
    assert is_locked(person.username)


def test_addresses_of_one_ipv6_network_are_one(person: User) -> None:
    for number in range(LIMIT):
        sign_in(person.username, "wrong", address=f"2001:db8:1:2::{number:x}")
    assert is_locked(person.username, "2001:db8:1:2:ffff::1")
    assert not is_locked(person.username, "2001:db8:1:3::1")


@both
def test_a_name_that_nobody_has_is_answered_like_one_that_somebody_has(person: User, path: str) -> None:
    """In text and in work: the hash is what takes the time."""

    def story(name: str) -> list[tuple[int, str, int]]:
        seen = []
        for password in ["wrong"] * LIMIT + [PASSWORD]:
            before = CountingHasher.calls
            answer = sign_in(name, password, path)
            said = text(answer).replace(name, "").replace(answer["X-Request-ID"], "")
            seen.append((answer.status_code, said, CountingHasher.calls - before))
        return seen

    known, unknown = story(person.username), story(f"nobody-{uuid4()}")
    assert known == unknown
    assert [hashes for _, _, hashes in known] == [1] * LIMIT + [0]


def test_a_sign_in_forgets_the_failures_before_it(person: User) -> None:
    for _ in range(2):
        for _ in range(LIMIT - 1):
            sign_in(person.username, "wrong")
        assert sign_in(person.username, PASSWORD).status_code == 302


def test_a_lockout_ends_and_attempts_meanwhile_neither_prolong_it_nor_are_kept(person: User) -> None:
    lock_out(person.username)
    attempts = AccessAttempt.objects.filter(username=person.username)
    before = list(attempts.values())
    sign_in(person.username, "x" * 10_000)
    assert list(attempts.values()) == before
    attempts.update(attempt_time=timezone.now() - settings.AXES_COOLOFF_TIME)
    assert sign_in(person.username, PASSWORD).status_code == 302


def test_no_password_and_no_form_token_is_kept(person: User) -> None:
    client = Client(REMOTE_ADDR=HERE)
    client.post(LOGIN, {"username": person.username, "password": "hunter2", "csrfmiddlewaretoken": "token-1"})
    (kept,) = AccessAttempt.objects.filter(username=person.username).values()
    assert "hunter2" not in str(kept)
    assert "token-1" not in str(kept)


def test_an_address_has_only_so_many_attempts_whatever_names_it_tries(person: User, settings: Settings) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "sign_ins": "3/hour"}
    spray = f"2001:db8:{person.pk.hex[-4:]}:{person.pk.hex[-8:-4]}::1"  # nobody has used it up
    for number in range(3):
        assert sign_in(f"name-{number}", "wrong", address=spray).status_code == 200
    before = CountingHasher.calls
    refused = sign_in(person.username, PASSWORD, address=spray)
    assert (refused.status_code, CountingHasher.calls) == (429, before)
    assert 0 < int(refused["Retry-After"]) <= 3600
    assert sign_in(person.username, PASSWORD, address=HERE).status_code == 302


# --- Staff --------------------------------------------------------------------------------------------------------


def test_staff_see_who_is_locked_out_and_let_them_try_again(person: User, staff: Client) -> None:
    lock_out(person.username)
    sign_in(f"only-once-{person.username}", "wrong")
    locked = staff.get(ATTEMPTS, {"state": "locked"})
    assert person.username in text(locked)
    assert "only-once" not in text(locked)
    assert "only-once" in text(staff.get(ATTEMPTS, {"state": "open"}))
    assert person.username in text(staff.get(ATTEMPTS, {"q": person.username}))
    assert person.username in text(staff.get(ATTEMPTS, {"q": HERE}))
    attempt = AccessAttempt.objects.get(username=person.username)
    page = staff.get(f"{ATTEMPTS}{attempt.pk}/change/")
    assert "locked out" in text(page)
    assert staff.post(f"{ATTEMPTS}{attempt.pk}/unlock/").status_code == 302
    assert "try again" in LogEntry.objects.latest("pk").change_message
    assert sign_in(person.username, PASSWORD).status_code == 302


def test_a_name_that_fails_in_several_browsers_is_shown_as_locked_out(person: User, staff: Client) -> None:
    for number in range(LIMIT):
        sign_in(person.username, "wrong", **{"User-Agent": f"browser {number}"})
    assert len(staff.get(ATTEMPTS, {"state": "locked"}).context["cl"].result_list) == LIMIT
    attempt = AccessAttempt.objects.filter(username=person.username).latest("pk")
    staff.post(f"{ATTEMPTS}{attempt.pk}/unlock/")
    assert not AccessAttempt.objects.filter(username=person.username).exists()


def test_staff_without_the_permission_look_and_do_not_touch(person: User) -> None:
    lock_out(person.username)
    attempt = AccessAttempt.objects.get(username=person.username)
    looking = staff_who_may("view_accessattempt")
    assert "Let try again" not in text(looking.get(ATTEMPTS))
    assert looking.post(f"{ATTEMPTS}{attempt.pk}/unlock/").status_code == 403
    for path in ("change", "delete"):
        assert looking.post(f"{ATTEMPTS}{attempt.pk}/{path}/").status_code == 403
    assert is_locked(person.username)


def test_a_list_of_many_failures_runs_as_many_queries_as_one_of_a_few(staff: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert staff.get(ATTEMPTS).status_code == 200
        return len(captured)

    sign_in("first", "wrong")
    queries()
    few = queries()
    for number in range(9):
        sign_in(f"name-{number}", "wrong")
    assert queries() == few


# --- In a browser -------------------------------------------------------------------------------------------------


def test_a_person_is_told_calmly_and_staff_let_them_try_again(visit: Visit, tenant: Tenant) -> None:
    fail_before(tenant.member.username, "127.0.0.1", LIMIT - 1)
    guesser = visit()
    guesser.goto("/login/")
    guesser.get_by_label("User name").fill(tenant.member.username)
    guesser.get_by_label("Password").fill("wrong")
    guesser.get_by_role("button", name="Sign in").click()
    expect(guesser.get_by_role("heading", name="Sign in later")).to_be_visible()
    check_accessibility(guesser)
    staff = visit(tenant.staff)
    staff.goto(f"{ATTEMPTS}?q={tenant.member.username}")
    expect(staff.get_by_text("locked out", exact=True)).to_have_count(2)  # before, and in this browser
    check_accessibility(staff)
    staff.get_by_role("button", name="Let try again").first.click()
    expect(staff.get_by_text("may sign in from")).to_be_visible()
    expect(staff.get_by_text("locked out", exact=True)).to_have_count(0)
