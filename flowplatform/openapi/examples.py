"""Examples of whole bodies and answers, put together from the examples beside the fields."""

from typing import Any

from drf_spectacular.drainage import warn

# Whose id it is shows in the name, so the same flow is meant wherever a `flow_id` stands.
IDS = {
    "flow_id": "019aa5d4-7c10-7a3e-9f52-6b1d0c8e4a01",
    "flow_execution_id": "019aa5d9-02b4-7c61-8e07-3d5f9a2b7c02",
    "organization_id": "019aa5c0-55e8-7f09-b4d3-917c6e0f2a03",
    "task_execution_id": "019aa5da-11c7-7d20-a6b8-58e3f4097c04",
    "task_output_id": "019aa5da-11f3-7e44-9c15-70a2d6b83e05",
    "task_status_id": "019aa5da-1208-7b95-8f3a-c4e91d075b06",
    "task_tag_id": "019aa5db-6d31-7482-b0e9-2f8a5c7d1e07",
}
_BY_FORMAT = {"uuid": "019aa5c0-9b2f-7033-a1d8-46e7f3c50b08", "date-time": "2026-11-22T08:15:30.123456Z"}

CURSOR = "WyJ0YXNrLW91dHB1dHMiLDQyXQ:1wMbRk:Yb0c2nQvT5x8LhE1sJ7uWf4oPzD9aKmG3iNrVqXtB6w"
TASKS = [{"name": "extract"}, {"name": "approve", "title": "Approve the amount", "depends_on": ["extract"]}]

Schema = dict[str, Any]


def example_of(schema: Schema, components: dict[str, Schema], name: str) -> Any:
    """Return an example of what fits the schema.

    The first of these that there is: its own `examples`, its default, a constant or the first of its choices, and
    for objects and arrays an example of what they hold. `name` is the property's or parameter's: a text without an
    example is reported by it, because no example can be made up for it.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, name)
    if schema.get("default") not in (None, [], {}, ""):
        return schema["default"]
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    for option in schema.get("anyOf", ()):
        return example_of(option, components, name)
    return _by_type(schema, components, name)


def _by_type(schema: Schema, components: dict[str, Schema], name: str) -> Any:
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {key: example_of(value, components, key) for key, value in schema["properties"].items()}
        case "array" if "items" in schema:
            return [example_of(schema["items"], components, name)]
        case "string" if schema.get("format") in _BY_FORMAT:
            return IDS.get(name) or _BY_FORMAT[schema["format"]]
        case "boolean":
            return False
        case "integer":
            return schema.get("minimum", 1)
    warn(f"{name} has no example: give its field `examples`.")
    return "example"
