"""The line on the page of a key sends the same request again: a shell and curl run it here."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from django_idempotency.models import IdempotencyKey
from tests.admin.people import PAYLOAD, VIEW, detail, page, signed_in
from tests.factories import IdempotencyKeyFactory
from tests.sender import new_key

BASH = shutil.which("bash") or ""
needs_curl = pytest.mark.skipif(
    not (BASH and shutil.which("curl")), reason="no curl, or no bash: apt-get install curl bash"
)
FORM = "application/x-www-form-urlencoded"
NASTY = 'it\'s "$(id)" `id` \\ !! ; %41 +&=<@ \x03\x1b[2J\r\nrm -rf ~\n\x9b é€😀'
FIELDS = {"note": NASTY, "qty": "2", "a b&c=d": "@/etc/passwd", "<": "<@ ;type=x", "empty": ""}
KEY = 'it\'s "a" $(id) key\\!!'


@pytest.fixture(autouse=True)
def _bodies_are_kept(settings: Any) -> None:
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}


def shown(key: IdempotencyKey, *permissions: str) -> tuple[str, str]:
    """The command line of a page, and what is said about it."""
    html = page(signed_in(VIEW, *permissions), detail(key))
    line, _end, rest = html.split('id="idem-curl"')[1].partition("</pre>")
    return unescape(line.partition(">")[2]), unescape(rest.partition("</p>")[0])


def sent(path: str, body: bytes | str, content_type: str, *, key: str = "") -> IdempotencyKey:
    headers = {"Idempotency-Key": key or new_key()}
    answer = Client().generic("POST", path, body, content_type=content_type, headers=headers)
    assert answer.status_code == 201, answer.content
    return IdempotencyKey.objects.get()


def run(line: str, url: str) -> str:
    """What the server answers to a line that was copied from a page."""
    line = line.replace("http://testserver", url).replace("curl ", "curl -sS -i -m 20 ", 1)
    done = subprocess.run([BASH, "-c", line], capture_output=True, text=True, check=True)
    return done.stdout


def multipart(fields: dict[str, Any]) -> str:
    return encode_multipart(BOUNDARY, fields).decode()


BODIES = {
    "json": ("application/json", json.dumps({"note": NASTY, "qty": 2, "x": [None, True, "\x7f"]})),
    "json-list": ("application/merge-patch+json", json.dumps({"@a": ["@b", {"'": "'"}]})),
    "form": (FORM, urlencode({**FIELDS, "": "nameless"})),
    "multipart": (MULTIPART_CONTENT, multipart({"note": NASTY, "a b": "@x", "c": "<y;type=z"})),
}


@needs_curl
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", BODIES)
def test_the_line_is_answered_with_a_replay(name: str, live_server: Any) -> None:
    """Byte for byte where it counts, whatever the fields hold: the fingerprint is the judge."""
    content_type, body = BODIES[name]
    key = sent("/plain/", body, content_type)
    line, _notes = shown(key, PAYLOAD)

    answer = run(line, live_server.url)

    assert "Idempotent-Replayed: true" in answer, (line, answer)
    assert IdempotencyKey.objects.get().replay_count == 1


@needs_curl
@pytest.mark.django_db(transaction=True)
def test_another_value_in_the_line_is_a_conflict(live_server: Any) -> None:
    """So that the test above can fail."""
    key = sent("/plain/", "sku=tea&qty=1", FORM)
    line, _notes = shown(key, PAYLOAD)

    assert "422" in run(line.replace("sku=tea", "sku=milk"), live_server.url).splitlines()[0]


@pytest.mark.django_db
@pytest.mark.parametrize("name", BODIES)
def test_nothing_in_the_line_moves_a_terminal(name: str) -> None:
    """A pasted control character would end the line, and begin another."""
    content_type, body = BODIES[name]
    line, _notes = shown(sent("/plain/", body, content_type), PAYLOAD)

    plain = line.replace(" \\\n  ", " ")
    assert plain.isprintable(), plain


@pytest.mark.django_db
def test_form_fields_are_options_of_their_own() -> None:
    """To be read, and to be filled in where values are not kept."""
    key = sent("/plain/", "sku=Earl+Grey&qty=2&card_number=4242", FORM)
    line, notes = shown(key, PAYLOAD)

    assert "--data-urlencode 'sku=Earl Grey'" in line
    assert "--data-urlencode 'card_number=[redacted]'" in line
    assert "application/json" not in line
    assert "Redacted values are not kept: replace them." in notes


@pytest.mark.django_db
def test_what_is_not_kept_is_said() -> None:
    """Files, and all but the last of several values."""
    upload = SimpleUploadedFile("tea.png", b"\x89PNG", "image/png")
    content = multipart_with_file({"sku": ["tea", "milk"], "photo": upload})
    line, notes = shown(sent("/plain/", content, MULTIPART_CONTENT), PAYLOAD)

    assert "-F photo=@FILE" in line
    assert "put their paths in the place of FILE" in notes
    assert "only the last value is kept" in notes


def multipart_with_file(fields: dict[str, Any]) -> bytes:
    return encode_multipart(BOUNDARY, fields)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (multipart({"sku": "tea", "a=b": "1"}), MULTIPART_CONTENT),
        (multipart({"note": "nul \x00"}), MULTIPART_CONTENT),
        ('{"sku": "tea"}', "application/vnd.nobody-knows+json"),
    ],
)
def test_a_body_that_curl_cannot_be_told_is_not_sent_wrongly(body: str, content_type: str) -> None:
    """The page says so."""
    line, notes = shown(sent("/plain/", body, content_type), PAYLOAD)

    assert "tea" not in line
    assert "The body of this request cannot be put in a command: add it." in notes


@pytest.mark.django_db
def test_no_body_is_made_up(settings: Any) -> None:
    """None is kept; none may be seen."""
    key = sent("/plain/", '{"sku": "tea"}', "application/json")
    line, notes = shown(key)
    assert "--data" not in line
    assert "Bodies are for people with the permission" in notes

    settings.IDEMPOTENCY = {"RECORD_REQUEST": "fields"}
    IdempotencyKey.objects.all().delete()
    line, notes = shown(sent("/plain/", '{"sku": "tea"}', "application/json"), PAYLOAD)
    assert "--data" not in line
    assert "The body of the request is not kept" in notes


@pytest.mark.django_db
def test_the_type_is_known_after_the_secret_was_changed(settings: Any) -> None:
    """As long as the old one is a fallback."""
    key = sent("/plain/", "sku=tea", FORM)

    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new"
    assert "--data-urlencode sku=tea" in shown(key, PAYLOAD)[0]
    settings.SECRET_KEY_FALLBACKS = []
    assert "--data" not in shown(key, PAYLOAD)[0]


@pytest.mark.django_db
def test_what_cannot_be_a_form_is_taken_for_json(settings: Any) -> None:
    """And that is said."""
    key = sent("/plain/", '{"sku": "tea", "qty": 2}', "application/json")
    settings.SECRET_KEY = "new"
    line, notes = shown(key, PAYLOAD)

    assert "-H 'Content-Type: application/json'" in line
    assert """--data-raw '{"sku": "tea", "qty": 2}'""" in line
    assert "JSON is assumed" in notes


@pytest.mark.django_db
@pytest.mark.parametrize("body", ['{"a": 1}', "[1]", '"x"', "null", '{"a": {"b": []}}', "{}"])
def test_a_record_that_is_not_what_its_type_says(body: str) -> None:
    """As a project's own redaction may leave it: no wrong line, no error."""
    key = sent("/plain/", "sku=tea", FORM)
    record = json.loads(key.request_record)
    record["body"] = json.loads(body)
    key.request_record = json.dumps(record)
    key.save()

    line, _notes = shown(key, PAYLOAD)

    assert "--data" not in line


@needs_curl
@pytest.mark.django_db(transaction=True)
def test_a_key_and_a_path_stay_words_of_the_shell(live_server: Any) -> None:
    """Whatever they hold."""
    key = IdempotencyKeyFactory(completed=True, key=KEY, path="/x/'; touch /tmp/no;'\r\nX: y")
    line, _notes = shown(key)

    assert len(line.splitlines()) == 2
    assert "404" in run(line, live_server.url).splitlines()[0]
