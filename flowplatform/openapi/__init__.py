"""The OpenAPI document: what views say about themselves, completed with what holds for every operation.

Views name parameters, bodies and answers as pydantic schemas, with examples beside the fields. drf-spectacular makes
operations of them (`operations.py`), and its post-processing hook (`document.py`) adds errors, headers and examples.
"""

from flowplatform.openapi.parameters import IDEMPOTENCY_KEY, ORGANIZATION, query_parameters
from flowplatform.openapi.refusals import KEY_IN_FLIGHT, Reason, refused

__all__ = ["IDEMPOTENCY_KEY", "KEY_IN_FLIGHT", "ORGANIZATION", "Reason", "query_parameters", "refused"]
