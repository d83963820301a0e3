"""More planted faults: whose key it is, what counts as the same request, what is kept."""

from __future__ import annotations

from .mutants import LOCKS, TRANSACTION, C, Mutant, S, mutant

__all__ = ["MUTANTS"]

_INITIAL = '        cast("Any", super()).initial(request, *args, **kwargs)\n'
_HANDLER = "        handler = getattr(self, name)\n"

CALLERS = (
    mutant(
        "scope without user",
        (
            C + "test_principals.py::test_p1_another_user_has_keys_of_her_own",
            "tests/test_security_callers.py::test_s1_s2_a_key_is_its_callers_own[bob-/apiview/]",
        ),
        ("scope.py", "'user'}:{user.pk}\"", "'user'}:\""),
    ),
    mutant(
        "all who have no user are one",
        "tests/test_frameworks.py::test_who_is_there_without_a_user_must_be_said",
        (
            "scope.py",
            "        if auth is not None and not getattr(",
            "        if None and not getattr(",
        ),
    ),
    mutant(
        "replay before permissions",
        (
            C + "test_principals.py::test_p6_a_lost_permission_gets_no_replay[/guarded/]",
            "tests/test_security_callers.py::test_s3_a_throttle_counts_replays",
        ),
        (
            "mixins.py",
            _INITIAL,
            "        parent = partial(cast('Any', super()).initial, request, *args, **kwargs)\n"
            "        if self._policy(request.method) is None "
            "or not self._carries_key(request._request):\n"
            "            parent()\n"
            "        self.format_kwarg = request.version = request.versioning_scheme = None\n"
            "        found = self.perform_content_negotiation(request)\n"
            "        request.accepted_renderer, request.accepted_media_type = found\n"
            "        self.perform_authentication(request)\n",
        ),
        (
            "mixins.py",
            _HANDLER,
            "        inner = getattr(self, name)\n\n"
            "        def handler(*args, **kwargs):\n"
            "            parent()\n"
            "            return inner(*args, **kwargs)\n\n",
        ),
    ),
    mutant(
        "can_replay ignored",
        C + "test_principals.py::test_p7_object_permissions_are_asked_before_a_replay",
        ("responses.py", "        if self.policy.can_replay and not", "        if False and not"),
    ),
    mutant(
        "visitors may have guessable keys",
        C + "test_principals.py::test_p9_a_visitors_key_must_be_hard_to_guess",
        ("scope.py", "ANONYMOUS_KEY_LENGTH = 16", "ANONYMOUS_KEY_LENGTH = 1"),
    ),
    mutant(
        "keys of a deleted user stay",
        C + "test_principals.py::test_p11_a_new_user_with_an_old_pk_inherits_nothing",
        ("upkeep.py", "keys.using(alias).completed()", "keys.using(alias).unfinished()"),
    ),
    mutant(
        "key compared case-insensitively",
        C + "test_keys.py::test_k14_the_value_is_case_sensitive[/apiview/]",
        (
            "incoming.py",
            "parse_key(sent, _key_rules(settings))",
            "parse_key(sent, _key_rules(settings)).lower()",
        ),
    ),
    mutant(
        "two header lines are one key",
        "tests/test_security_requests.py::test_s6_no_spelling_of_a_key_makes_a_second_row",
        ("keys.py", r"[!#-+\--:<-\[\]-~]+", r"[!#-:<-\[\]-~]+"),
    ),
    mutant(
        "the digest of scope and key has no lengths",
        "tests/test_security_requests.py::test_s9_every_digest_tells_its_parts_apart",
        ("protocol.py", 'b"%d:%b%b" % (len(pair), pair,', 'b"%b%b" % (pair,'),
    ),
)

REQUESTS = (
    mutant(
        "fingerprint without query",
        C + "test_mismatch.py::test_m4_another_query_is_refused",
        ("content.py", "        _query_digest(asked, is_utf8=is_utf8),\n", ""),
    ),
    mutant(
        "fingerprint without method",
        C + "test_mismatch.py::test_m2_another_method_is_refused",
        ("content.py", 'texts = (cast("str", request.method), ', "texts = ("),
    ),
    mutant(
        "fingerprint by route",
        C + "test_mismatch.py::test_m3_another_object_of_one_route_is_refused",
        (
            "content.py",
            ", django_request.path, media_type",
            ", django_request.resolver_match.route, media_type",
        ),
    ),
    mutant(
        "fingerprint without media type",
        "tests/proof/test_model_requests.py::test_m5_a_media_type_alone_is_a_difference",
        (
            "content.py",
            "django_request.path, media_type, *headers",
            "django_request.path, *headers",
        ),
    ),
    mutant(
        "fingerprint that anyone can compute",
        "tests/test_fingerprint.py::test_a_signature_needs_the_secret",
        ("fingerprint.py", 'hmac.digest(secret, digest, "sha256").hex()', "digest.hex()"),
    ),
    mutant(
        "retired secrets forgotten",
        "tests/test_fingerprint.py::test_a_rotated_secret_key_still_replays",
        ("conf.py", ", *django_settings.SECRET_KEY_FALLBACKS]", "]"),
    ),
    mutant(
        "a body that was read by others is not compared",
        "tests/test_misuse.py::test_a_body_that_nobody_can_compare_is_an_error",
        (
            "body.py",
            'if getattr(request, "_read_started", False):\n            raise',
            "if 0:\n            raise",
        ),
    ),
    mutant(
        "depth as far as the stack reaches",
        "tests/test_fingerprint.py::test_depth_is_judged_alike_wherever_a_request_meets_us",
        ("fingerprint.py", "    if _is_deep(document):", "    if False:"),
    ),
    mutant(
        "parts are hashed without their lengths",
        "tests/test_fingerprint.py::test_no_two_splits_of_one_text_meet",
        ("fingerprint.py", '        digest.update(b"%d:" % len(part))\n', ""),
    ),
    mutant(
        "expiry by the application's clock",
        C + "test_reads_and_clocks.py::test_x10_the_clock_of_a_server_expires_nothing[48-/plain/]",
        (
            "rows.py",
            "expired=response is not None and bool(expired),",
            "expired=response is not None and _moment(expires_at) <= datetime.now(UTC),",
        ),
    ),
    mutant(
        "an expired key replays until it is purged",
        C + "test_expiry.py::test_t1_t3_an_expired_key_executes_as_new[/plain/]",
        ("rows.py", "response is not None and bool(expired)", "False"),
    ),
    mutant(
        "a slow success keeps its old expiry",
        C + "test_expiry.py::test_t1_a_view_that_outlasts_its_retention_is_replayable_afterwards",
        ("rows.py", "timedelta(milliseconds=duration_ms) < retention / 4", "True"),
    ),
    mutant(
        "a late success keeps its old expiry",
        C + "test_expiry.py::test_t1_a_retry_long_after_a_failure_is_replayable_afterwards",
        (
            "statements.py",
            "THEN {self.later} ELSE {expires} END",
            "THEN {expires} ELSE {expires} END + 0 * ({self.later} - {self.now})",
        ),
    ),
)

KEPT = (
    mutant(
        "a stored response is replaced",
        (
            S + "test_a_stored_response_is_never_replaced",
            S + "test_an_execution_that_cannot_store_its_response_is_undone",
        ),
        ("statements.py", '= %s AND {completed} IS NULL"', '= %s"'),
    ),
    mutant(
        "store Set-Cookie",
        C + "test_bodies.py::test_h2_a_cookie_written_as_a_header_is_not_replayed",
        ("conf.py", '("Set-Cookie", "Date",', '("Date",'),
    ),
    mutant(
        "store the cookies of the view",
        (
            C + "test_bodies.py::test_h2_h3_headers_of_the_moment_are_not_replayed",
            "tests/test_security_responses.py::test_s12_no_cookie_is_stored_or_replayed",
        ),
        (
            "responses.py",
            "            headers=tuple(pair for pair in response.items() "
            "if _is_kept(pair[0], self.settings)),\n",
            "            headers=tuple(pair for pair in response.items() "
            "if _is_kept(pair[0], self.settings))\n"
            '            + tuple(("Set-Cookie", m.OutputString()) '
            "for m in response.cookies.values()),\n",
        ),
    ),
    mutant(
        "store the browsable page",
        "tests/test_security_responses.py::test_s14_no_browsable_page_is_stored",
        ("mixins.py", "            _choose_storable(view, request)\n", "            pass\n"),
    ),
    mutant(
        "redaction of the response skipped",
        "tests/proof/test_security_rows.py::test_s29_a_one_time_token_is_not_kept",
        (
            "responses.py",
            "if body is not None and self.policy.redact_response is not None:",
            "if False:",
        ),
    ),
    mutant(
        "redaction of the request skipped",
        "tests/test_fingerprint.py::test_body_records_redact_what_the_setting_names",
        ("content.py", "redacted(data, settings.REDACT)", "data"),
    ),
    mutant(
        "a response too large is not final",
        C + "test_bodies.py::test_h8_a_body_too_large_is_final_all_the_same",
        (
            "engine.py",
            "if request.is_final(stored.status):",
            "if stored.body is not None and request.is_final(stored.status):",
        ),
    ),
    mutant(
        "an uncounted replay costs the answer",
        "tests/test_security_store.py::test_s31_a_trail_that_fails_costs_no_answer",
        (
            "trace.py",
            "        except Error:\n            # The answer stands",
            "        except MemoryError:\n            # The answer stands",
        ),
    ),
    mutant(
        "the key is in the log",
        "tests/test_security_requests.py::test_s23_a_request_is_one_line_and_no_key",
        ("trace.py", "            request.id.hex[:8],\n", "            request.key,\n"),
    ),
)

MUTANTS: tuple[Mutant, ...] = TRANSACTION + LOCKS + CALLERS + REQUESTS + KEPT
