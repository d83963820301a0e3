from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutboundConfig(AppConfig):
    name = "django_idempotency.contrib.outbound"
    label = "django_idempotency_outbound"
    verbose_name = _("Outbound operations")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        autodiscover_modules("outbound")  # where apps register what sends their intents
