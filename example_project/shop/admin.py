from __future__ import annotations

from django.contrib import admin

from .models import Account, GuestOrder, Payment, Refund

admin.site.register([Account, Payment, Refund, GuestOrder])
