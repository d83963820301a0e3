from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import django_idempotency.columns


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboundIntent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "object_id",
                    django_idempotency.columns.ExactCharField(
                        max_length=255, verbose_name="object"
                    ),
                ),
                (
                    "purpose",
                    django_idempotency.columns.ExactCharField(
                        max_length=80, verbose_name="purpose"
                    ),
                ),
                (
                    "key",
                    django_idempotency.columns.ExactCharField(
                        editable=False, max_length=36, unique=True, verbose_name="key"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("sending", "Sending"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("unknown", "Unknown"),
                        ],
                        default="open",
                        editable=False,
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "attempts",
                    models.PositiveIntegerField(default=0, editable=False, verbose_name="attempts"),
                ),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                (
                    "first_sent_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="first sent"),
                ),
                (
                    "last_attempt_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="last attempt"),
                ),
                (
                    "next_attempt_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="next attempt"),
                ),
                (
                    "resolved_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="resolved"),
                ),
                (
                    "last_error",
                    models.TextField(blank=True, editable=False, verbose_name="last error"),
                ),
                (
                    "content_type",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        to="contenttypes.contenttype",
                        verbose_name="type",
                    ),
                ),
            ],
            options={
                "verbose_name": "outbound intent",
                "verbose_name_plural": "outbound intents",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["purpose", "next_attempt_at"], name="outbound_intent_due")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("content_type", "object_id", "purpose"),
                        name="outbound_intent_one_per_purpose",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("key", ""), _negated=True),
                            models.Q(("purpose", ""), _negated=True),
                            models.Q(("object_id", ""), _negated=True),
                        ),
                        name="outbound_intent_is_named",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("attempts", 0),
                                ("first_sent_at", None),
                                ("last_attempt_at", None),
                                ("state", "open"),
                            ),
                            models.Q(
                                models.Q(("state", "open"), _negated=True),
                                ("attempts__gt", 0),
                                ("first_sent_at__isnull", False),
                                ("last_attempt_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="outbound_intent_open_iff_never_sent",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("next_attempt_at", None),
                                ("resolved_at__isnull", False),
                                ("state__in", ("succeeded", "failed")),
                            ),
                            models.Q(
                                ("next_attempt_at__isnull", False),
                                ("resolved_at", None),
                                ("state__in", ("open", "sending", "unknown")),
                            ),
                            _connector="OR",
                        ),
                        name="outbound_intent_resolved_iff_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("last_error", ""), ("state__in", ("failed", "unknown")), _negated=True
                        ),
                        name="outbound_intent_trouble_is_explained",
                    ),
                ],
            },
        ),
    ]
