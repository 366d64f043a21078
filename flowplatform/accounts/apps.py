"""Organizations and everybody who acts in them."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, organizations, members, service accounts and their tokens."""

    name = "flowplatform.accounts"
    label = "accounts"
