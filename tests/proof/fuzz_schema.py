"""The OpenAPI schema of the example project, made by drf-spectacular from its views.

What cannot be read off them (a serializer inside a function, a plain Django view) is said here,
in the way that drf-spectacular has for views one does not own.
"""

from __future__ import annotations

from copy import deepcopy
from functools import wraps
from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers

from example_project.shop.serializers import (
    GuestOrderSerializer,
    ImportSerializer,
    PaymentSerializer,
    RefundSerializer,
)
from tests.proof.fuzz_openapi import Schema

HERE = "tests.proof"
HOOKS = [f"{HERE}.fuzz_schema.document_errors", f"{HERE}.fuzz_openapi.document_idempotency"]
HOOKS += [f"{HERE}.fuzz_schema.add_the_async_view"]
LOW = inline_serializer(
    "LowBalance", {"detail": serializers.CharField(), "balance": serializers.IntegerField()}
)
IMPORTED = inline_serializer("Imported", {"imported": serializers.IntegerField()})


class Guests(OpenApiViewExtension):
    target_class = "example_project.shop.views.guest_checkout"

    def view_replacement(self) -> Any:
        class Documented(self.target_class):  # type: ignore[misc, name-defined]
            @extend_schema(request=GuestOrderSerializer, responses={201: GuestOrderSerializer})
            def post(self, request: Any) -> Any: ...

        return Documented


class Imports(OpenApiViewExtension):
    target_class = "example_project.shop.views.OrderImportView"

    def view_replacement(self) -> Any:
        class Documented(self.target_class):  # type: ignore[misc, name-defined]
            @extend_schema(
                request={"multipart/form-data": ImportSerializer}, responses={201: IMPORTED}
            )
            def post(self, request: Any) -> Any: ...

        return Documented


class Payments(OpenApiViewExtension):
    target_class = "example_project.shop.views.PaymentViewSet"

    def view_replacement(self) -> Any:
        target: Any = self.target_class
        refund = wraps(target.refunds)(lambda *args: target.refunds(*args))
        refund.kwargs = dict(refund.kwargs)  # its own, so that the view stays what it is

        class Documented(target):
            refunds = extend_schema(request=RefundSerializer, responses={201: RefundSerializer})(
                refund
            )

            @extend_schema(responses={201: PaymentSerializer, 402: LOW})
            def create(self, request: Any) -> Any: ...

        return Documented


def add_the_async_view(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """A plain Django view that takes the guests' orders; drf-spectacular sees none of those."""
    paths = result["paths"]
    if "/orders/guest/" in paths:
        operation = deepcopy(paths["/orders/guest/"]["post"])
        operation["operationId"] = "orders_async_create"
        content = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = {"application/json": content["application/json"]}
        paths["/orders/async/"] = {"post": operation}
    return result


def document_errors(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """What any view of REST framework may refuse with."""
    mistakes = {"oneOf": [{"type": "object"}, {"type": "array"}]}
    for item in result["paths"].values():
        for operation in item.values():
            for status in (400, 401, 403, 404, 406, 415):
                content: Schema = {"application/json": {"schema": mistakes}}
                answer = {"description": "REST framework's refusal.", "content": content}
                operation["responses"].setdefault(str(status), answer)
            # No number where one belongs: Django finds no view, and answers with its page.
            operation["responses"]["404"]["content"]["text/html"] = {"schema": {"type": "string"}}
    return result


def schema_of(urlconf: str) -> Schema:
    """The schema of a URL configuration; needs ``AutoSchema`` as ``DEFAULT_SCHEMA_CLASS``."""
    with patched_settings({"POSTPROCESSING_HOOKS": HOOKS, "COMPONENT_SPLIT_REQUEST": True}):
        schema: Schema = SchemaGenerator(urlconf=urlconf).get_schema(request=None, public=True)
    return schema
