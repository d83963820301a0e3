"""What hostile requests are sent to: one careful operation behind each way in.

It refuses, and never fails on, whatever it does not expect: so what fails is not the view. All of
them ask for a key, so an order without one is an error. Below ``fault/`` stand views with a
planted fault each, which the checker must notice.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpResponse, JsonResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods
from rest_framework.decorators import api_view, parser_classes
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from tests.orders.models import Order

SKU = re.compile(r"fuzz-[0-9a-f]{16}x")  # of one length, so no cut makes another one of it
JSON = "application/json"


def wanted(data: Any) -> dict[str, Any] | None:
    """The order that a body asks for; None = it does not."""
    if not isinstance(data, Mapping):
        return None
    sku, qty = data.get("sku"), data.get("qty")
    if not (isinstance(sku, str) and SKU.fullmatch(sku)) or str(qty) not in {"1", "2"}:
        return None
    return {"sku": sku, "qty": int(str(qty))}


def described(order: Order) -> dict[str, Any]:
    return {"id": order.pk, "sku": order.sku}


def parsed(request: Any) -> Any:
    if request.content_type != JSON:
        return request.POST
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return None


def drf(request: Any) -> Response:
    values = wanted(request.data)
    if values is None:
        raise ValidationError
    return Response(described(Order.objects.create(**values)), status=201)


def django(request: Any, **kwargs: Any) -> HttpResponse:
    values = wanted(parsed(request))
    if values is None:
        raise BadRequest
    return JsonResponse(described(Order.objects.create(**values)), status=201)


def plain(view: Callable[..., Any], **policy: Any) -> Any:
    protected = idempotent(required=True, **policy)(view)
    return csrf_exempt(require_http_methods(["POST", "PATCH"])(protected))


class Careful:
    """REST framework's own end in 500, with a key and without.

    On JSON that is nested too deep; before 3.18.1 on a charset that is none of text.
    """

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except (LookupError, RecursionError) as error:
            raise ParseError from error


class CarefulJSONParser(Careful, JSONParser):
    """Of a document."""


class CarefulFormParser(Careful, FormParser):
    """Of a form."""


PARSERS = [CarefulJSONParser, CarefulFormParser, MultiPartParser]


class Mixin(IdempotentMixin, APIView):
    idempotency_required = True
    parser_classes = PARSERS

    def post(self, request: Any, **kwargs: Any) -> Response:
        return drf(request)

    patch = post


@idempotent(required=True)
@api_view(["POST", "PATCH"])
@parser_classes(PARSERS)
def function(request: Any) -> Response:
    return drf(request)


async def asynchronous(request: Any) -> HttpResponse:
    values = wanted(parsed(request))
    if values is None:
        raise BadRequest
    return JsonResponse(described(await Order.objects.acreate(**values)), status=201)


# -- planted faults


def answers_500(request: Any) -> HttpResponse:
    """Expects that what is not its order is JSON at least."""
    data = wanted(parsed(request)) or {"sku": json.loads(request.body)["sku"], "qty": 1}
    return JsonResponse(described(Order.objects.create(**data)), status=201)


def keeps_refusals(request: Any) -> HttpResponse:
    """Returns what it should raise: the key belongs to the broken request for good."""
    values = wanted(parsed(request))
    if values is None:
        return HttpResponse(status=400)
    return JsonResponse(described(Order.objects.create(**values)), status=201)


def dies(request: Any) -> HttpResponse:
    if wanted(parsed(request)) is None:
        os._exit(1)
    return django(request)


def each_spelling(request: Any) -> HttpResponse:
    """Takes the header as it comes, so another spelling of one key is another key."""
    sent = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if sent is not None:
        request.META["HTTP_IDEMPOTENCY_KEY"] = hashlib.sha256(sent.encode()).hexdigest()
    response: HttpResponse = plain(django)(request)
    return response


# -- the framework alone


@csrf_exempt
@api_view(["POST"])
def bare_drf(request: Any) -> Response:
    return Response({"read": bool(request.data)})


@csrf_exempt
def bare_django(request: Any) -> HttpResponse:
    return JsonResponse({"read": bool(request.POST)})


FAULTS: dict[str, Callable[..., Any]] = {
    "answers-500": plain(answers_500),
    "unprotected": csrf_exempt(django),
    "keeps-refusals": plain(keeps_refusals),
    "dies": plain(dies),
    "each-spelling": csrf_exempt(each_spelling),
}

urlpatterns = [
    path("mixin/", Mixin.as_view()),
    path("function/", function),
    path("plain/", plain(django)),
    path("async/", plain(asynchronous)),
    path("form/", plain(django, key_field="idempotency_key")),
    # Whatever follows reaches a view; not with the path of the well-formed request, though.
    re_path(r"^(?:mixin)/(?s:.+)$", Mixin.as_view()),
    re_path(r"^(?:function|plain|async|form)/(?s:.+)$", plain(django)),
    *(path(f"fault/{name}/", view) for name, view in FAULTS.items()),
    path("faults/", include("tests.proof.fuzz_faults")),
    path("bare/drf/", bare_drf),
    path("bare/django/", bare_django),
    path("keyed/drf/", idempotent(bare_drf)),
    path("keyed/django/", csrf_exempt(idempotent(bare_django))),
]
