"""The tables: what a key holds, how often it was used again, and the trail of those uses.

Rules about state are constraints, so that no code path can store a lie. The hot path
writes these tables with the statements in ``sql.py``; all else is plain ORM. Numbers that are only
ever counted up have no constraint: PositiveIntegerField's would cost each replay 15 µs.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from .clock import DatabaseNow
from .columns import ExactCharField, PlainUUIDField
from .protocol import ids_of, key_id

__all__ = ["IdempotencyKey", "IdempotencyKeyQuerySet", "KeyEvent", "KeyTally"]

MAX_TEXT = 255  # characters of scope, key, path, route and user agent

_ANSWERED = Q(
    completed_at__isnull=False,
    response_status__range=(100, 599),
    response_headers__isnull=False,
)
_UNANSWERED = Q(completed_at=None, response_status=None, response_headers=None, response_body=None)


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    """Vocabulary for reports and the admin. Times are compared by the database's clock."""

    def for_key(self, key: str) -> IdempotencyKeyQuerySet:
        """All uses of ``key``, in whatever scope: a range scan on the primary key."""
        return self.filter(pk__range=ids_of(key), key=key)

    def in_scope(self, scope: str, key: str) -> IdempotencyKeyQuerySet:
        return self.filter(pk=key_id(scope, key))

    def completed(self) -> IdempotencyKeyQuerySet:
        return self.filter(completed_at__isnull=False)

    def unfinished(self) -> IdempotencyKeyQuerySet:
        """Begun and not completed: in flight, or free again after a failure or a crash."""
        return self.filter(completed_at=None)

    def expired(self, *, for_at_least: timedelta = timedelta(0)) -> IdempotencyKeyQuerySet:
        return self.filter(expires_at__lte=DatabaseNow() - for_at_least)

    def with_counts(self) -> IdempotencyKeyQuerySet:
        """Load the tallies along; filter and order by ``replays``, ``conflicts``, …."""
        return self.select_related("tally").annotate(
            replays=Coalesce(F("tally__replay_count"), 0),
            conflicts=Coalesce(F("tally__conflict_count"), 0),
            in_flight=Coalesce(F("tally__in_flight_count"), 0),
            failures=Coalesce(F("tally__failure_count"), 0),
        )


class IdempotencyKey(models.Model):
    """One idempotency key of one scope, and the response it stands for."""

    id = PlainUUIDField(primary_key=True, editable=False)
    scope = ExactCharField(_("client"), max_length=MAX_TEXT)
    key = ExactCharField(_("key"), max_length=MAX_TEXT)
    fingerprint = models.CharField(_("fingerprint"), max_length=64)
    method = models.CharField(_("method"), max_length=10)
    path = ExactCharField(_("path"), max_length=MAX_TEXT)
    route = ExactCharField(_("endpoint"), max_length=MAX_TEXT)
    request_record = models.TextField(_("request record"), blank=True)
    remote_addr = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=MAX_TEXT, blank=True)
    request_id = ExactCharField(_("request id"), max_length=128, blank=True)
    seed = PlainUUIDField(_("outbound seed"), editable=False)
    attempts = models.IntegerField(_("attempts"), default=1)
    created_at = models.DateTimeField(_("first seen"), db_index=True)
    expires_at = models.DateTimeField(_("expires"), db_index=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)
    duration_ms = models.IntegerField(_("duration in ms"), null=True, blank=True)
    response_status = models.SmallIntegerField(_("status"), null=True, blank=True)
    response_headers = models.TextField(_("response headers"), null=True, blank=True)  # noqa: DJ001
    response_body = models.BinaryField(_("response body"), null=True, blank=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        ordering = ("-created_at",)
        default_permissions = ("view",)
        permissions = (
            ("view_payload", _("Can view stored responses and request records")),
            ("forget_key", _("Can free a key for a new execution, or expire it")),
            ("export", _("Can export keys")),
        )
        # Without the second index that CharField(db_index=True) makes for LIKE.
        indexes = (models.Index(fields=("scope",), name="idempotency_key_scope"),)
        constraints = (
            models.CheckConstraint(
                condition=_UNANSWERED | _ANSWERED, name="idempotency_key_completed_iff_answered"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")),
                name="idempotency_key_expires_after_first_seen",
            ),
            models.CheckConstraint(
                condition=~Q(key="") & ~Q(scope="") & ~Q(fingerprint=""),
                name="idempotency_key_is_named",
            ),
            models.CheckConstraint(
                condition=Q(attempts__gte=1), name="idempotency_key_attempts_positive"
            ),
        )

    def __str__(self) -> str:
        return self.key

    @property
    def replay_count(self) -> int:
        """How many retries were answered with the stored response."""
        return self._counts().replay_count

    @property
    def conflict_count(self) -> int:
        """How often the key was sent with a different request, and refused."""
        return self._counts().conflict_count

    @property
    def in_flight_count(self) -> int:
        """How many retries were refused because the first request had not finished."""
        return self._counts().in_flight_count

    @property
    def failure_count(self) -> int:
        """How many executions were rolled back."""
        return self._counts().failure_count

    @property
    def given_way_count(self) -> int:
        """How many requests were given the key and let a quicker twin have it."""
        return self._counts().given_way_count

    @property
    def last_replayed_at(self) -> datetime | None:
        return self._counts().last_replayed_at

    def _counts(self) -> KeyTally:
        try:
            return self.tally
        except KeyTally.DoesNotExist:
            return KeyTally(key=self)


class KeyTally(models.Model):
    """How often a key was used again; no row = never.

    Apart from the key, because the key's row is locked while its request runs and refusals
    must be counted just then, and because a narrow row is cheap to update a thousand times.
    """

    key = models.OneToOneField(
        IdempotencyKey,
        models.CASCADE,
        primary_key=True,
        db_constraint=False,
        related_name="tally",
        verbose_name=_("key"),
    )
    replay_count = models.IntegerField(_("replays"), default=0)
    conflict_count = models.IntegerField(_("conflicting reuses"), default=0)
    in_flight_count = models.IntegerField(_("refused in flight"), default=0)
    failure_count = models.IntegerField(_("failed executions"), default=0)
    # Requests that were given the key and did not come to execute: a twin was quicker.
    given_way_count = models.IntegerField(_("given way to a twin"), default=0)
    last_replayed_at = models.DateTimeField(_("last replayed"), null=True, blank=True)

    class Meta:
        verbose_name = _("key tally")
        verbose_name_plural = _("key tallies")
        default_permissions = ()
        # Conflicts are rare and asked for; counting replays leaves this index alone.
        indexes = (models.Index(fields=("conflict_count",), name="idempotency_tally_conflicts"),)

    def __str__(self) -> str:
        return str(self.pk)


class KeyEvent(models.Model):
    """One later use of a key, with what an investigator asks: when, from where, how it went.

    The first execution is described by the key itself. Of each kind a key keeps the first
    ``EVENTS_PER_KIND`` events; its tally counts them all.
    """

    class Kind(models.TextChoices):
        REPLAYED = "replayed", _("Replayed")
        IN_FLIGHT = "in_flight", _("Refused in flight")
        CONFLICT = "conflict", _("Conflicting reuse")
        FAILED = "failed", _("Failed, rolled back")

    key = models.ForeignKey(
        IdempotencyKey,
        models.CASCADE,
        db_constraint=False,
        related_name="events",
        verbose_name=_("key"),
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    at = models.DateTimeField(_("time"))
    status = models.SmallIntegerField(_("status"), null=True, blank=True)
    duration_ms = models.IntegerField(_("duration in ms"))
    method = models.CharField(_("method"), max_length=10)
    path = ExactCharField(_("path"), max_length=MAX_TEXT)
    remote_addr = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=MAX_TEXT, blank=True)
    request_id = ExactCharField(_("request id"), max_length=128, blank=True)
    differences = models.TextField(_("differences"), blank=True)  # JSON: {field: what}
    request_record = models.TextField(_("request record"), blank=True)  # conflicts only

    class Meta:
        verbose_name = _("key event")
        verbose_name_plural = _("key events")
        ordering = ("at", "id")
        default_permissions = ()
        indexes = (models.Index(fields=("kind", "at"), name="idempotency_event_kind_at"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(kind__in=("replayed", "in_flight", "conflict", "failed")),
                name="idempotency_event_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(kind="conflict") | Q(differences="", request_record=""),
                name="idempotency_event_only_conflicts_differ",
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d %H:%M:%S}"
