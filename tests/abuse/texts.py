"""JSON that is none, or none that may be stored, and types that are not JSON."""

from tests.abuse.attack import Attack, sized

NO_JSON = "not JSON (orjson, flowplatform/parsers.py)"
NOT_STORED = "JSON that no field may hold (flowplatform/parsers.py)"
NOT_THE_SCHEMA = "not what the schema says (pydantic)"
OTHER_TYPE = "application/json is the only type"

_STATUS = b'{"statuses":[{"task_name":"extract","status":%s}]}'
_REFUSED = {
    "NaN": (b"NaN", "400", NO_JSON),
    "Infinity": (b"-Infinity", "400", NO_JSON),
    "1e400": (b"1e400", "400", NO_JSON),
    "an integer of 100,000 digits": (b"9" * 100_000, "400 | 422", NO_JSON),
    "a lone surrogate": (rb'"\ud800"', "400", NO_JSON),
    "a surrogate pair in the wrong order": (rb'"\udc00\ud800"', "400", NO_JSON),
    "NUL, escaped": (rb'"\u0000"', "422", NOT_STORED),
    "NUL, raw": (b'"\0"', "400", NO_JSON),
    "a control character, raw": (b'"\x1b"', "400", NO_JSON),
    "bytes that are not UTF-8": (b'"\xff\xfe"', "400", NO_JSON),
    "UTF-8 longer than it need be": (b'"\xc0\xaf"', "400", NO_JSON),
    "a text of 1 MB": (b'"' + b"x" * 1_000_000 + b'"', "422", NOT_THE_SCHEMA),
    "an object for a text": (b'{"$ne":null}', "422", NOT_THE_SCHEMA),
}
_WHOLE = {
    "brackets 500,000 deep": (b"[" * 500_000, "400", NO_JSON),
    "objects 1,000 deep": (b'{"a":' * 1_000 + b"1" + b"}" * 1_000, "400 | 422", NOT_STORED),
    "seventeen levels": (b"[" * 17 + b"]" * 17, "422", NOT_STORED),
    "300,000 empty arrays": (b"[" + b"[]," * 300_000 + b"[]]", "422", NOT_THE_SCHEMA),
    "100,000 keys": (b"{" + b",".join(b'"%d":1' % number for number in range(80_000)) + b"}", "422", NOT_THE_SCHEMA),
    "one key 100,000 times": (b"{" + b'"a":1,' * 100_000 + b'"a":1}', "422", NOT_THE_SCHEMA),
    "a key twice": (b'{"statuses":[],"statuses":[{"task_name":1,"status":2}]}', "422", NOT_THE_SCHEMA),
    "10,000 items": (
        b'{"statuses":[' + b",".join([b'{"task_name":"extract","status":"a"}'] * 10_000) + b"]}",
        "422",
        NOT_THE_SCHEMA,
    ),
    "a byte order mark": (b"\xef\xbb\xbf{}", "400", NO_JSON),
    "UTF-16": ("{}".encode("utf-16"), "400", NO_JSON),
    "half of it": (b'{"statuses":[{"task_name":"extr', "400", NO_JSON),
    "a comment": (b"/* */{}", "400", NO_JSON),
    "nothing": (b"", "400", NO_JSON),
    "a form": (b"statuses=1", "400", NO_JSON),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "400", NO_JSON),
    "XML with an entity of its own": (
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "400",
        NO_JSON,
    ),
}
_TYPES = [
    *(
        "text/plain",
        "text/html",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ),
    *(
        "multipart/form-data",
        "application/x-python-pickle",
        "application/json+pickle",
        "application/jsonx",
        "*/*",
        "\xff",
        "x" * 5000,
    ),
]

ATTACKS = [
    *(
        Attack(f"status: {name}", lambda scene, text=text: sized(scene, _STATUS % text), answer, why)
        for name, (text, answer, why) in _REFUSED.items()
    ),
    *(
        Attack(f"JSON: {name}", lambda scene, text=text: sized(scene, text), answer, why)
        for name, (text, answer, why) in _WHOLE.items()
    ),
    *(
        Attack(
            f"type {name[:40]!r}",
            lambda scene, name=name: sized(scene, b"{}", content_type=f"Content-Type: {name}"),
            "415",
            OTHER_TYPE,
        )
        for name in _TYPES
    ),
    Attack("no type", lambda scene: sized(scene, b"{}", content_type=""), "415", OTHER_TYPE),
]
