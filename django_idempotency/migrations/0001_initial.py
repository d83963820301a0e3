from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import django_idempotency.columns


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "id",
                    django_idempotency.columns.PlainUUIDField(
                        editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "scope",
                    django_idempotency.columns.ExactCharField(
                        max_length=255, verbose_name="client"
                    ),
                ),
                (
                    "key",
                    django_idempotency.columns.ExactCharField(max_length=255, verbose_name="key"),
                ),
                ("fingerprint", models.CharField(max_length=64, verbose_name="fingerprint")),
                ("method", models.CharField(max_length=10, verbose_name="method")),
                (
                    "path",
                    django_idempotency.columns.ExactCharField(max_length=255, verbose_name="path"),
                ),
                (
                    "route",
                    django_idempotency.columns.ExactCharField(
                        max_length=255, verbose_name="endpoint"
                    ),
                ),
                ("request_record", models.TextField(blank=True, verbose_name="request record")),
                (
                    "remote_addr",
                    models.GenericIPAddressField(blank=True, null=True, verbose_name="address"),
                ),
                (
                    "user_agent",
                    models.CharField(blank=True, max_length=255, verbose_name="user agent"),
                ),
                (
                    "request_id",
                    django_idempotency.columns.ExactCharField(
                        blank=True, max_length=128, verbose_name="request id"
                    ),
                ),
                (
                    "seed",
                    django_idempotency.columns.PlainUUIDField(
                        editable=False, verbose_name="outbound seed"
                    ),
                ),
                ("attempts", models.IntegerField(default=1, verbose_name="attempts")),
                ("created_at", models.DateTimeField(db_index=True, verbose_name="first seen")),
                ("expires_at", models.DateTimeField(db_index=True, verbose_name="expires")),
                (
                    "completed_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="completed"),
                ),
                (
                    "duration_ms",
                    models.IntegerField(blank=True, null=True, verbose_name="duration in ms"),
                ),
                (
                    "response_status",
                    models.SmallIntegerField(blank=True, null=True, verbose_name="status"),
                ),
                (
                    "response_headers",
                    models.TextField(blank=True, null=True, verbose_name="response headers"),
                ),
                (
                    "response_body",
                    models.BinaryField(blank=True, null=True, verbose_name="response body"),
                ),
            ],
            options={
                "verbose_name": "idempotency key",
                "verbose_name_plural": "idempotency keys",
                "ordering": ("-created_at",),
                "permissions": (
                    ("view_payload", "Can view stored responses and request records"),
                    ("forget_key", "Can free a key for a new execution, or expire it"),
                    ("export", "Can export keys"),
                ),
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="KeyEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("replayed", "Replayed"),
                            ("in_flight", "Refused in flight"),
                            ("conflict", "Conflicting reuse"),
                            ("failed", "Failed, rolled back"),
                        ],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                ("at", models.DateTimeField(verbose_name="time")),
                (
                    "status",
                    models.SmallIntegerField(blank=True, null=True, verbose_name="status"),
                ),
                ("duration_ms", models.IntegerField(verbose_name="duration in ms")),
                ("method", models.CharField(max_length=10, verbose_name="method")),
                (
                    "path",
                    django_idempotency.columns.ExactCharField(max_length=255, verbose_name="path"),
                ),
                (
                    "remote_addr",
                    models.GenericIPAddressField(blank=True, null=True, verbose_name="address"),
                ),
                (
                    "user_agent",
                    models.CharField(blank=True, max_length=255, verbose_name="user agent"),
                ),
                (
                    "request_id",
                    django_idempotency.columns.ExactCharField(
                        blank=True, max_length=128, verbose_name="request id"
                    ),
                ),
                ("differences", models.TextField(blank=True, verbose_name="differences")),
                ("request_record", models.TextField(blank=True, verbose_name="request record")),
            ],
            options={
                "verbose_name": "key event",
                "verbose_name_plural": "key events",
                "ordering": ("at", "id"),
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="KeyTally",
            fields=[
                (
                    "key",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="tally",
                        serialize=False,
                        to="django_idempotency.idempotencykey",
                        verbose_name="key",
                    ),
                ),
                ("replay_count", models.IntegerField(default=0, verbose_name="replays")),
                (
                    "conflict_count",
                    models.IntegerField(default=0, verbose_name="conflicting reuses"),
                ),
                (
                    "in_flight_count",
                    models.IntegerField(default=0, verbose_name="refused in flight"),
                ),
                (
                    "failure_count",
                    models.IntegerField(default=0, verbose_name="failed executions"),
                ),
                (
                    "given_way_count",
                    models.IntegerField(default=0, verbose_name="given way to a twin"),
                ),
                (
                    "last_replayed_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last replayed"),
                ),
            ],
            options={
                "verbose_name": "key tally",
                "verbose_name_plural": "key tallies",
                "default_permissions": (),
            },
        ),
        migrations.AddIndex(
            model_name="idempotencykey",
            index=models.Index(fields=["scope"], name="idempotency_key_scope"),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("completed_at", None),
                        ("response_body", None),
                        ("response_headers", None),
                        ("response_status", None),
                    ),
                    models.Q(
                        ("completed_at__isnull", False),
                        ("response_headers__isnull", False),
                        ("response_status__range", (100, 599)),
                    ),
                    _connector="OR",
                ),
                name="idempotency_key_completed_iff_answered",
            ),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.CheckConstraint(
                condition=models.Q(("expires_at__gt", models.F("created_at"))),
                name="idempotency_key_expires_after_first_seen",
            ),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("key", ""), _negated=True),
                    models.Q(("scope", ""), _negated=True),
                    models.Q(("fingerprint", ""), _negated=True),
                ),
                name="idempotency_key_is_named",
            ),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.CheckConstraint(
                condition=models.Q(("attempts__gte", 1)), name="idempotency_key_attempts_positive"
            ),
        ),
        migrations.AddField(
            model_name="keyevent",
            name="key",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="django_idempotency.idempotencykey",
                verbose_name="key",
            ),
        ),
        migrations.AddIndex(
            model_name="keytally",
            index=models.Index(fields=["conflict_count"], name="idempotency_tally_conflicts"),
        ),
        migrations.AddIndex(
            model_name="keyevent",
            index=models.Index(fields=["kind", "at"], name="idempotency_event_kind_at"),
        ),
        migrations.AddConstraint(
            model_name="keyevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ("replayed", "in_flight", "conflict", "failed"))),
                name="idempotency_event_kind_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="keyevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind", "conflict"),
                    models.Q(("differences", ""), ("request_record", "")),
                    _connector="OR",
                ),
                name="idempotency_event_only_conflicts_differ",
            ),
        ),
    ]
