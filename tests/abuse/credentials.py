"""Tokens and cookies that are none."""

import base64

from tests.abuse.attack import Attack, head

UNKNOWN = "one answer for missing, malformed, expired and revoked credentials (contract)"
TOO_LONG = "longer than the server's limits for headers"


def _get(*lines: str, path: str = "/api/flows") -> list[bytes]:
    return [head("GET", path, *lines)]


_TOKENS = {
    "an empty token": "Authorization: Bearer ",
    "a scheme alone": "Authorization: Bearer",
    "another scheme": "Authorization: Basic " + base64.b64encode(b"admin:admin").decode(),
    "binary": "Authorization: Bearer " + "".join(map(chr, range(0x80, 0x100))),
    "tabs": "Authorization: Bearer \t a.b",
    "two tokens": "Authorization: Bearer a.b, Bearer c.d",
    "a token of 8 KB": "Authorization: Bearer " + "a" * 8_000,
    "a token of 8 KB with a dot": "Authorization: Bearer " + "a" * 4_000 + "." + "b" * 4_000,
    "a token of dots": "Authorization: Bearer " + "." * 2_000,
    "SQL": "Authorization: Bearer ' OR 1=1 --.x",
    "a format string": "Authorization: Bearer %s%s%n.{0}",
    "a JWT without an algorithm": "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "a binary key": "X-API-Key: \xff\xfe\xfd",
    "an empty key": "X-API-Key:",
}
_ON_LIVE = {"binary": "400 bare"}  # Daphne takes some bytes for control characters
_COOKIES = {
    "a session of nobody": "flowplatform_session=" + "a" * 32,
    "a session of 8 KB": "flowplatform_session=" + "a" * 8_000,
    "a binary session": "flowplatform_session=\xff\xfe",
    "a session of SQL": "flowplatform_session=' OR 1=1 --",
    "a session with a path": "flowplatform_session=../../../etc/passwd",
    "1,000 cookies": "; ".join(f"c{number}=v" for number in range(1_000)),
    "1,000 sessions": "; ".join(["flowplatform_session=a"] * 400),
    "garbage": ';=;;"=\\"; \\073=; $Version=1;',
    "octal escapes": 'flowplatform_session="\\000\\377"',
}

ATTACKS = [
    *(
        Attack(f"token: {name}", lambda scene, line=line: _get(line), "401", UNKNOWN, live=_ON_LIVE.get(name, ""))
        for name, line in _TOKENS.items()
    ),
    Attack(
        "token: 90 of them",
        lambda scene: _get(*[f"Authorization: Bearer {scene.token}"] * 90),
        "401",
        "several are none",
    ),
    Attack(
        "token: 300 KB",
        lambda scene: _get("Authorization: Bearer " + "a" * 300_000),
        "401",
        UNKNOWN,
        live="400 bare | closed",
    ),
    *(
        Attack(f"cookie: {name}", lambda scene, line=line: _get(f"Cookie: {line}"), "401", UNKNOWN)
        for name, line in _COOKIES.items()
    ),
    *(
        Attack(
            f"cookie on a page: {name}",
            lambda scene, line=line: _get(f"Cookie: {line}", path="/login/"),
            "200 page",
            "an unknown session is nobody's, who may sign in",
        )
        for name, line in _COOKIES.items()
    ),
    Attack(
        "sign-in with a token that is not ours",
        lambda scene: [
            head(
                "POST",
                "/login/",
                "Cookie: csrftoken=\xff",
                "Content-Type: application/x-www-form-urlencoded",
                "Content-Length: 23",
            ),
            b"csrfmiddlewaretoken=%ff",
        ],
        "403 page",
        "CSRF",
    ),
    Attack(
        "sign-in with 10,000 fields",
        lambda scene: [
            head("POST", "/login/", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 60000"),
            b"a=b&c&" * 10_000,
        ],
        "403 page",
        "CSRF: the form is not looked at",
    ),
    Attack(
        "sign-in with a broken multipart",
        lambda scene: [
            head("POST", "/login/", "Content-Type: multipart/form-data; boundary=" + "x" * 300, "Content-Length: 8"),
            b"--x\r\n\r\n\0",
        ],
        "400 page | 403 page",
        "no form",
    ),
]
