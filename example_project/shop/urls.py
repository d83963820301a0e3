from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView
from rest_framework.routers import SimpleRouter

from . import views

router = SimpleRouter(use_regex_path=False)
router.register("payments", views.PaymentViewSet, basename="payment")

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="checkout")),
    path("checkout/", views.checkout, name="checkout"),
    path("checkout/<uuid:number>/", views.checkout_done, name="checkout-done"),
    path("orders/guest/", views.guest_checkout, name="guest-checkout"),
    path("orders/async/", views.async_order, name="async-order"),
    path("orders/import/", views.OrderImportView.as_view(), name="order-import"),
    path("", include(router.urls)),
]
