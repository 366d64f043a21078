"""Every row, by its kind."""

from tests.abuse import bodies, credentials, frames, heads, paths, slow, texts
from tests.abuse.attack import Attack

GROUPS: dict[str, list[Attack]] = {
    "Bodies": bodies.ATTACKS,
    "Slow clients": slow.ATTACKS,
    "Heads": heads.ATTACKS,
    "JSON and types": texts.ATTACKS,
    "Credentials": credentials.ATTACKS,
    "Addresses": paths.ATTACKS,
    "Sockets": frames.ATTACKS,
}
