from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from tests.orders import views

router = SimpleRouter()
router.register("viewset", views.OrderViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("apiview/", views.OrderAPIView.as_view()),
    path("required/", views.RequiredView.as_view()),
    path("function/", views.api_function),
    path("plain/", views.plain_function),
    path("class/", views.PlainView.as_view()),
    path("async/", views.async_function),
    path("unprotected/", views.unprotected),
    path("", include(router.urls)),
]
