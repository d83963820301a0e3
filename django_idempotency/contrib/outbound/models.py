"""The intent to call another service once, stored with the row that wants it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeVar

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models, router
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_idempotency.clock import DatabaseNow
from django_idempotency.columns import ExactCharField

from . import sending
from .sending import LEASE, WINDOW, Attempt

__all__ = ["OutboundIntent", "OutboundIntentQuerySet"]

R = TypeVar("R")

_LONGEST_PURPOSE = 80  # characters
_GRACE = timedelta(minutes=1)  # for who stored the intent to send it, before the command does


class OutboundIntentQuerySet(models.QuerySet["OutboundIntent"]):
    def unresolved(self) -> OutboundIntentQuerySet:
        return self.filter(resolved_at=None)

    def resolved(self) -> OutboundIntentQuerySet:
        return self.filter(resolved_at__isnull=False)

    def due(self, purpose: str, *, window: timedelta = WINDOW) -> OutboundIntentQuerySet:
        """What the command may send now, the longest waiting first."""
        young = Q(first_sent_at=None) | Q(first_sent_at__gt=DatabaseNow() - window)
        waiting = self.unresolved().filter(young, purpose=purpose)
        return waiting.filter(next_attempt_at__lte=DatabaseNow()).order_by("next_attempt_at")

    def past_window(self, purpose: str, *, window: timedelta = WINDOW) -> OutboundIntentQuerySet:
        """What nobody sends again: a person has to look."""
        return self.unresolved().filter(purpose=purpose, first_sent_at__lte=DatabaseNow() - window)


class OutboundIntent(models.Model):
    """One operation at another service: its key, and what is known of its outcome.

    The key is random and stored. A key made from the row's primary key would be the same in a
    restored copy of the database, and the other service would mix the two up.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")  # nothing was ever sent
        SENDING = "sending", _("Sending")  # sent, and no outcome recorded: perhaps a crash
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")  # definitely did not happen
        UNKNOWN = "unknown", _("Unknown")  # may have happened

    content_type = models.ForeignKey(ContentType, models.PROTECT, verbose_name=_("type"))
    object_id = ExactCharField(_("object"), max_length=255)
    purpose = ExactCharField(_("purpose"), max_length=_LONGEST_PURPOSE)
    key = ExactCharField(_("key"), max_length=36, unique=True, editable=False)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.OPEN, editable=False
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0, editable=False)
    created_at = models.DateTimeField(_("created"), editable=False)
    first_sent_at = models.DateTimeField(_("first sent"), null=True, editable=False)
    last_attempt_at = models.DateTimeField(_("last attempt"), null=True, editable=False)
    # While it is being sent: when another worker may take it over. Null once resolved.
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, editable=False)
    resolved_at = models.DateTimeField(_("resolved"), null=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)

    target = GenericForeignKey("content_type", "object_id")
    objects = OutboundIntentQuerySet.as_manager()

    class Meta:
        verbose_name = _("outbound intent")
        verbose_name_plural = _("outbound intents")
        default_permissions = ("view",)
        indexes = (
            # Resolved intents, in time nearly all, have no next attempt.
            models.Index(fields=("purpose", "next_attempt_at"), name="outbound_intent_due"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("content_type", "object_id", "purpose"),
                name="outbound_intent_one_per_purpose",
            ),
            models.CheckConstraint(
                condition=~Q(key="") & ~Q(purpose="") & ~Q(object_id=""),
                name="outbound_intent_is_named",
            ),
            models.CheckConstraint(
                condition=Q(
                    state="open",
                    attempts=0,
                    first_sent_at=None,
                    last_attempt_at=None,
                )
                | ~Q(state="open")
                & Q(
                    attempts__gt=0,
                    first_sent_at__isnull=False,
                    last_attempt_at__isnull=False,
                ),
                name="outbound_intent_open_iff_never_sent",
            ),
            models.CheckConstraint(  # names all states, so there are no others
                condition=Q(
                    state__in=("succeeded", "failed"),
                    resolved_at__isnull=False,
                    next_attempt_at=None,
                )
                | Q(
                    state__in=("open", "sending", "unknown"),
                    resolved_at=None,
                    next_attempt_at__isnull=False,
                ),
                name="outbound_intent_resolved_iff_known",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=("failed", "unknown"), last_error=""),
                name="outbound_intent_trouble_is_explained",
            ),
        )

    def __str__(self) -> str:
        return f"{self.purpose} {self.content_type.model} {self.object_id}"

    @classmethod
    def for_object(cls, obj: models.Model, purpose: str) -> OutboundIntent:
        """The intent to do ``purpose`` once for ``obj``; made if there is none.

        Call it in the transaction that writes ``obj``: then the key is stored if, and only if,
        the row is. It is the same key in every process, today and after a restart.

        Raises:
            ValueError: ``obj`` is not saved yet, or ``purpose`` is empty or too long.
        """
        if obj.pk is None or obj._state.adding:
            msg = "Save the object first; the intent is stored beside its row."
            raise ValueError(msg)
        if not 0 < len(purpose) <= _LONGEST_PURPOSE:
            msg = (
                'A purpose says what is done once for the object, such as "charge", in 1 to '
                f"{_LONGEST_PURPOSE} characters."
            )
            raise ValueError(msg)
        alias = obj._state.db or router.db_for_write(cls, instance=obj)
        intent, created = cls.objects.using(alias).get_or_create(
            content_type=ContentType.objects.db_manager(alias).get_for_model(obj),
            object_id=str(obj.pk),
            purpose=purpose,
            defaults={
                "key": str(uuid.uuid4()),
                "created_at": DatabaseNow(),
                "next_attempt_at": DatabaseNow() + _GRACE,
            },
        )
        if created:
            intent.refresh_from_db(using=alias)
        return intent

    @property
    def is_resolved(self) -> bool:
        return self.resolved_at is not None

    def sending(
        self,
        *,
        failed: tuple[type[Exception], ...] = (),
        lease: timedelta = LEASE,
        window: timedelta = WINDOW,
    ) -> AbstractContextManager[Attempt]:
        """Record an attempt, run the block, record its outcome; each record is committed.

        The block that ends has succeeded, unless it says otherwise on the ``Attempt`` that it
        is given. One of the ``failed`` exceptions means: definitely did not happen. Any other
        exception, or a crash, leaves the outcome unknown.

        Args:
            failed: exceptions that are the other side's definite no, such as a declined card.
            lease: how long the block may take at most; then others may take the intent over.
            window: how long the other side remembers a key, with a margin.

        Raises:
            IntentNotSendable: it is being sent elsewhere, is resolved, or is too old.
            TypeError, ValueError: an argument makes no sense.
            RuntimeError: a transaction is open, so nothing could be recorded for certain.
        """
        return sending.sending(self, failed=failed, lease=lease, window=window)

    def send(
        self,
        call: Callable[[str], R],
        *,
        failed: tuple[type[Exception], ...] = (),
        lease: timedelta = LEASE,
        window: timedelta = WINDOW,
    ) -> R:
        """``call(key)`` in a ``sending()`` block; an HTTP response that it returns is judged."""
        with self.sending(failed=failed, lease=lease, window=window) as attempt:
            result = call(attempt.key)
            attempt.judge(result)
        return result

    def resolve(self, *, succeeded: bool, note: str) -> None:
        """Record what a person or a report found out about an unknown outcome.

        Raises:
            ValueError: there is no note, or the outcome is not unknown.
        """
        sending.resolve(self, succeeded=succeeded, note=note)
