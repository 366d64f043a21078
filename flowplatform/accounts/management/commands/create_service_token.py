"""`manage.py create_service_token`: makes a service token and prints it alone, so that a script can capture it."""

from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug

from flowplatform.accounts.models import SCOPES
from flowplatform.accounts.services import ensure_organization, issue_service_token
from flowplatform.audit.authors import Author
from flowplatform.audit.writing import acting


def _slug(text: str) -> str:
    try:
        validate_slug(text)
    except ValidationError:
        raise ArgumentTypeError("an organization's slug has only letters, digits, hyphens and underscores") from None
    return text


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 36_500:
        raise ArgumentTypeError("days are a whole number from 1 to 36500")
    return int(text)


class Command(BaseCommand):
    """Create a service token. Only its hash is stored: it shows once, on standard output."""

    help = "Create a service token and print it. The organization is created if it is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", type=_slug, metavar="SLUG", help="the organization the token acts in")
        parser.add_argument("--system", action="store_true", help="a token that acts in every organization")
        parser.add_argument(
            "--scope",
            action="append",
            choices=SCOPES,
            metavar="SCOPE",
            help=f"one of {', '.join(SCOPES)}; repeat it for several, leave it out for all",
        )
        parser.add_argument("--expires", type=_days, metavar="DAYS", help="the token ends after so many days")
        parser.add_argument("--name", required=True, help="the service account, such as the worker's name")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["system"] and not options["organization"]:
            raise CommandError("Say --organization SLUG, or --system for a token that acts in every organization.")
        if not 1 <= len(options["name"]) <= 100:
            raise CommandError("The name has 1 to 100 characters.")
        with acting(Author("command:create_service_token")):
            organization = ensure_organization(slug=options["organization"]) if options["organization"] else None
            token = issue_service_token(
                organization=None if options["system"] else organization,
                name=options["name"],
                scopes=options["scope"] or SCOPES,
                expires_in=timedelta(days=options["expires"]) if options["expires"] else None,
            )
        self.stdout.write(token)
