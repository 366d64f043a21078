"""Every row, by the name that its test has."""

from tests.abuse import bodies, credentials, heads, paths, texts
from tests.abuse.attack import Attack

ATTACKS: list[Attack] = [*bodies.ATTACKS, *heads.ATTACKS, *texts.ATTACKS, *credentials.ATTACKS, *paths.ATTACKS]
