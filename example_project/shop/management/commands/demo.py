"""``manage.py demo``: from nothing to a running shop with a history, in one command."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from rest_framework.authtoken.models import Token

from example_project.shop.history import seed_history
from example_project.shop.models import Account

ADMIN = "admin"  # name and password
CLIENTS = ("teashop-app", "bookstall-web", "flowercart-pos", "bakery-kiosk", "harbour-sync")
BALANCE = 100_000  # cents


class Command(BaseCommand):
    help = "Creates the demo's database where it is missing, and serves the shop and its admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("addrport", nargs="?", default="127.0.0.1:8000", help="as runserver's")
        parser.add_argument("--no-serve", action="store_true", help="only prepare the database")

    def handle(self, *, addrport: str, no_serve: bool, **options: Any) -> None:
        if not settings.DEBUG:
            msg = "The demo's password is known to everyone; it runs with DEBUG=1 only."
            raise CommandError(msg)
        call_command("migrate", verbosity=0)
        if not User.objects.filter(username=ADMIN).exists():
            User.objects.create_superuser(ADMIN, password=ADMIN)
        users = [_client(name) for name in CLIENTS]
        token, _ = Token.objects.get_or_create(user=users[0])
        account, _ = Account.objects.get_or_create(
            owner=users[0], name="Tea shop", defaults={"balance": BALANCE}
        )
        added = seed_history([(user.username, user.pk) for user in users])
        if added:
            self.stdout.write(f"Added two weeks of history: {added} keys.")
        self._explain(_origin(addrport), token.key, account)
        if not no_serve:
            call_command("runserver", addrport, use_reloader=False)

    def _explain(self, origin: str, token: str, account: Account) -> None:
        key = str(uuid.uuid4())
        steps = (
            ("A payment:", 1250),
            ("The same again, as after a lost answer; no money moves:", 1250),
            ("The same key for another amount, a client's bug; refused:", 9900),
        )
        for title, amount in steps:
            body = {"account": account.pk, "amount": amount, "reference": "INV-1001"}
            self.stdout.write(
                f"\n{title}\n"
                f"curl -i {origin}/payments/ -H 'Authorization: Token {token}' "
                f"-H 'Idempotency-Key: {key}' -H 'Content-Type: application/json' "
                f"-d '{json.dumps(body)}'"
            )
        self.stdout.write(f"\nCheckout: {origin}/checkout/ (click twice)")
        self.stdout.write(f"Admin:    {origin}/admin/ (user {ADMIN}, password {ADMIN})\n")
        self.stdout.flush()


def _client(name: str) -> User:
    """A user who is a program: it has a token or nothing, never a password."""
    no_password = {"password": make_password(None)}
    return User.objects.get_or_create(username=name, defaults=no_password)[0]


def _origin(addrport: str) -> str:
    """Where a client on this machine reaches the server."""
    host, _, port = addrport.rpartition(":")
    return f"http://{'127.0.0.1' if host in {'', '0', '0.0.0.0'} else host}:{port}"  # noqa: S104
