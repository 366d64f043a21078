"""What request schemas are made of: the strict base model, text types, and validation that answers 422."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from django.http import QueryDict
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from flowplatform.errors import Unprocessable

PROBLEMS_SHOWN = 100
PROBLEMS_LISTED = 1_000  # to be shown: pydantic lists all or none, and a body of 1 MiB can have 80,000

Schema = TypeVar("Schema", bound=BaseModel)


class Body(BaseModel):
    """A request body: exact JSON types, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """Query parameters: text that is converted, no unknown parameter."""

    model_config = ConfigDict(extra="forbid")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("string_nul", "NUL characters are not allowed")
    return text


def _written_out(value: object) -> object:
    """Refuse numbers, and texts of digits: pydantic would take them as seconds since 1970."""
    if not isinstance(value, str) or value.replace(".", "").strip("+- ").isdecimal():
        raise PydanticCustomError("datetime_type", "A time in ISO 8601 is expected, such as 2026-11-22T08:30:00Z")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "In UTC this moment is before the year 1 or after 9999") from None


def _whole(value: object) -> object:
    """Take 1.0 for 1, as JSON Schema does: JSON has one kind of number, and some clients write integers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Identifier = Annotated[UUID, Field(strict=False)]
WHOLE = BeforeValidator(_whole)  # stands after limits, which would be missing in the JSON schema otherwise
Author = Annotated[
    str, Field(description="`user:<username>` or `service:<account name>`, as it was then.", examples=["user:alice"])
]
QueryText = Annotated[str, StringConstraints(max_length=255), AfterValidator(_without_nul)]
Moment = Annotated[datetime, Field(strict=False), BeforeValidator(_written_out), AfterValidator(_in_utc)]

_identifier: TypeAdapter[UUID] = TypeAdapter(Identifier)


def validate(schema: type[Schema], data: Any, *, where: str) -> Schema:
    """Return `data` as `schema`; raise `Unprocessable` with locations that begin with `where` (body, query)."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise Unprocessable(_problems(error, (where,))) from None


def validate_query(schema: type[Schema], parameters: QueryDict) -> Schema:
    """Return query parameters as `schema`. One that is given but empty counts as absent, one given twice is a list."""
    given = {name: [value for value in values if value != ""] for name, values in parameters.lists()}
    return validate(schema, {name: v[0] if len(v) == 1 else v for name, v in given.items() if v}, where="query")


def path_identifier(name: str, text: str) -> UUID:
    """Return the UUID in a path parameter; raise `Unprocessable` if it is none."""
    try:
        return _identifier.validate_python(text)
    except ValidationError as error:
        raise Unprocessable(_problems(error, ("path", name))) from None


def _problems(error: ValidationError, prefix: tuple[str, ...]) -> list[dict[str, Any]]:
    if error.error_count() > PROBLEMS_LISTED:
        return [{"loc": [*prefix], "msg": f"There are {error.error_count()} problems", "type": "too_many_problems"}]
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:PROBLEMS_SHOWN]
    return [{"loc": [*prefix, *problem["loc"]], "msg": problem["msg"], "type": problem["type"]} for problem in problems]
