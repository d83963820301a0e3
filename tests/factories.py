from __future__ import annotations

import json
import uuid
from datetime import timedelta

import factory
from django.utils import timezone

from django_idempotency.models import IdempotencyKey, KeyEvent
from django_idempotency.protocol import key_id


class IdempotencyKeyFactory(factory.django.DjangoModelFactory):
    """A key whose request is unfinished; a trait for any other state."""

    class Meta:
        model = IdempotencyKey

    scope = "user:1"
    key = factory.LazyFunction(lambda: str(uuid.uuid4()))
    id = factory.LazyAttribute(lambda row: key_id(row.scope, row.key))
    fingerprint = "0" * 64
    method, path, route = "POST", "/payments/", "payments/"
    seed = factory.LazyFunction(uuid.uuid4)
    created_at = factory.LazyFunction(timezone.now)
    expires_at = factory.LazyAttribute(lambda row: row.created_at + timedelta(hours=24))

    class Params:
        completed = factory.Trait(
            response_status=201,
            response_headers=json.dumps([["Content-Type", "application/json"]]),
            response_body=b'{"id":1}',
            duration_ms=12,
            completed_at=factory.LazyAttribute(lambda row: row.created_at),
        )
        expired = factory.Trait(
            created_at=factory.LazyFunction(lambda: timezone.now() - timedelta(hours=25))
        )


class KeyEventFactory(factory.django.DjangoModelFactory):
    """A replay of a completed key."""

    class Meta:
        model = KeyEvent

    key = factory.SubFactory(IdempotencyKeyFactory, completed=True)
    kind, status, duration_ms, method, path = "replayed", 201, 3, "POST", "/payments/"
    at = factory.LazyFunction(timezone.now)
