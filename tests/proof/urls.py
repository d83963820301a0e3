from __future__ import annotations

from django.urls import path

from tests.proof import views
from tests.urls import urlpatterns as usual

urlpatterns = [
    path("proof/async/", views.asynchronous),
    path("proof/plain/", views.plain),
    path("proof/<str:shape>/", views.ProofView.as_view()),
    path("health/", views.health),
    *usual,
]
