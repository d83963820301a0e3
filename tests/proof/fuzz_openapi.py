"""A postprocessing hook of drf-spectacular: protected operations say so in the schema.

The header with the key, its form and whether it must be sent; every refusal by status, with its
``type`` and ``code``; the headers of the answers. It needs nothing of drf-spectacular but what a
hook is given.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, exceptions
from django_idempotency.conf import Settings, get_settings
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.policy import Policy

Schema = dict[str, Any]
PROBLEMS = sorted(
    (
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, IdempotencyError) and "slug" in vars(value)
        if value is not IdempotencyError
    ),
    key=lambda problem: problem.slug,
)
ANONYMOUS_MINIMUM = 16
VISIBLE = r"[!#-+\--:<-\[\]-~]"  # what a key may hold where it is sent without quotes
PROBLEM = "#/components/schemas/IdempotencyProblem"


def document_idempotency(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    for path, _regex, method, callback in generator.endpoints:
        view = generator.create_view(callback, method)
        policy = policy_of(view, method)
        if policy is not None:
            path = generator.coerce_path(path, method, view)
            document(result["paths"][path][method.lower()], policy, get_settings())
            result["components"]["schemas"].setdefault("IdempotencyProblem", problem())
    return result


def policy_of(view: APIView, method: str) -> Policy | None:
    """The policy that holds for a method of a view; None = it is not protected."""
    if not isinstance(view, IdempotentMixin):
        return None
    for verb, action in (getattr(view, "action_map", None) or {}).items():
        setattr(view, verb, getattr(view, action))  # as a viewset does when it is called
    return view._policy(method)


def document(operation: Schema, policy: Policy, settings: Settings) -> None:
    """Add to an operation what its protection adds to it."""
    shared = settings.KEY_MIN_LENGTH if policy.anonymous == "reject" else ANONYMOUS_MINIMUM
    least = max(settings.KEY_MIN_LENGTH, shared)
    operation.setdefault("parameters", []).append(
        {
            "in": "header",
            "name": settings.HEADER,
            "required": bool(policy.required),
            "description": "A new UUID for each new operation; the same one in each retry.",
            "schema": {
                "type": "string",
                "minLength": least,
                "maxLength": settings.KEY_MAX_LENGTH,
                "pattern": f"^{VISIBLE}+$",
            },
        }
    )
    responses = operation["responses"]
    for response in responses.values():
        response.setdefault("headers", {})["Idempotent-Replayed"] = {
            "description": "Only where this is the stored response of an earlier request.",
            "schema": {"type": "string", "enum": ["true"]},
        }
    for status, problems in sorted(possible(policy, settings).items()):
        response = responses.setdefault(str(status), {"description": ""})
        titles = "; ".join(problem.title for problem in problems)
        response["description"] = f"{response['description']} {titles}".strip()
        response.setdefault("content", {})["application/problem+json"] = {
            "schema": one_of(problems)
        }
        if any(problem.retry_after is not None for problem in problems):
            response.setdefault("headers", {})["Retry-After"] = {"schema": {"type": "integer"}}


def possible(policy: Policy, settings: Settings) -> dict[int, list[type[IdempotencyError]]]:
    """The refusals that this site and this view can give, by status."""
    absent = {
        exceptions.KeyMissing: not policy.required,
        exceptions.AnonymousRefused: policy.anonymous != "reject",
        exceptions.TooManyKeys: settings.KEYS_PER_SCOPE is None,
        exceptions.KeyExpired: settings.ON_EXPIRED == "execute",
        exceptions.ReplayForbidden: policy.can_replay is None,
        exceptions.ExecutionFailed: not settings.STORE_5XX,
    }
    changed = {
        exceptions.KeyInProgress: settings.IN_FLIGHT_STATUS,
        exceptions.KeyReused: settings.MISMATCH_STATUS,
    }
    found: dict[int, list[type[IdempotencyError]]] = defaultdict(list)
    for kind in PROBLEMS:
        if not absent.get(kind, False):
            found[int(changed.get(kind, kind.status))].append(kind)
    return found


def one_of(problems: list[type[IdempotencyError]]) -> Schema:
    """The common form, and which of the codes it may have here."""
    codes = sorted(problem("").code for problem in problems)
    uris = sorted(get_settings().DOCS_URL + problem.slug for problem in problems)
    here = {"properties": {"code": {"enum": codes}, "type": {"enum": uris}}}
    return {"allOf": [{"$ref": PROBLEM}, here]}


def problem() -> Schema:
    text = {"type": "string"}
    members = {"type": {"type": "string", "format": "uri"}, "status": {"type": "integer"}}
    members |= dict.fromkeys(("title", "detail", "code"), text)
    return {"type": "object", "properties": members, "required": sorted(members)}
