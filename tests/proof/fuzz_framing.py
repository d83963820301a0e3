"""More families: where a request begins and ends, on which line, how often, and who hangs up."""

from __future__ import annotations

from tests.proof.fuzz_shots import Draft, family, noise


@family
def lying_lengths(d: Draft) -> None:
    right, size = b"Content-Length: %d" % len(d.body), len(d.body)
    choices = [
        *([b"%d" % (size - 1)], [b"%d" % (size + 1)], [b"%d" % (size + 70_000)], [b"0"], [b"-1"]),
        *(
            [b"+%d" % size],
            [b"%d, %d" % (size, size)],
            [b"0x%x" % size],
            [b"1" * 25],
            [b"x"],
            [b""],
        ),
        *(
            [b" %d " % size],
            [b"%d.0" % size],
            [b"\xb2"],
            ["२०".encode()],
            [b"00%d" % size],
            [b"1e2"],
        ),
        *([b"%d" % size, b"%d" % (size - 3)], [b"%d" % (size - 3), b"%d" % size], []),
    ]
    d.length = [b"Content-Length: " + value for value in d.chance.choice(choices)]
    if d.chance.random() < 0.15:
        d.length = [right, b"Content_Length: %d" % (size - 3)]


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@family
def chunks(d: Draft) -> None:
    body, size = d.body, b"%x" % len(d.body)
    d.body = d.chance.choice(
        [
            *(chunked(body), chunked(body[:9], body[9:]), chunked(*(bytes([c]) for c in body))),
            *(chunked(body, end=b""), chunked(body, end=b"0\r\n"), chunked(body, end=b"0")),
            chunked(body, end=b"0\r\nIdempotency-Key: trailing-%b\r\n\r\n" % d.key),
            chunked(body, end=b"0\r\n%b\r\n\r\n" % noise(d.chance)),
            *(
                chunked(),
                b"",
                b"\r\n",
                b"x\r\n",
                b"-1\r\n" + body,
                b"0x5\r\n" + body,
                noise(d.chance),
            ),
            *(size + b";a=b\r\n" + body + b"\r\n0\r\n\r\n", size + b"\n" + body + b"\n0\n\n"),
            *(b"f" * 20 + b"\r\n" + body, b"\r\n" + size + b"\r\n" + body + b"\r\n0\r\n\r\n"),
            *(size + b"\r\n" + body + b"x\r\n0\r\n\r\n", size + b"\r\n" + body + b"0\r\n\r\n"),
            *(b"ffffff\r\n" + body, size + b";" + b"e" * 9_000 + b"\r\n" + body + b"\r\n0\r\n\r\n"),
        ]
    )
    codings = [[b"chunked"]] * 9
    codings += [
        [b"Chunked"],
        [b"xchunked"],
        [b"chunked, chunked"],
        [b"gzip, chunked"],
        [b"identity"],
    ]
    codings += [[b"chunked", b"chunked"], [b"chunked, identity"], [b"\x0bchunked"], [b'"chunked"']]
    coding = d.chance.choice(codings)
    d.length = [b"Transfer-Encoding: " + value for value in coding]
    if d.chance.random() < 0.25:
        d.length += [b"Content-Length: %d" % d.chance.choice([0, 4, len(d.body)])]


@family
def smuggled(d: Draft) -> None:
    """A second request in the body of the first: with the same key, whoever sees it."""
    inner, d.body = d.raw(), b""
    size = len(inner)
    d.length = d.chance.choice(
        [
            [b"Content-Length: %d" % size, b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
            [b"Transfer-Encoding : chunked", b"Content-Length: %d" % size],
            [b"Transfer-Encoding: chunked\x00", b"Content-Length: %d" % size],
            [b"Transfer_Encoding: chunked", b"Content-Length: %d" % size],
            [b"Content-Length: 0", b"Content-Length: %d" % size],
            [b"Content-Length: %d" % size],
            [],
        ]
    )
    d.body = d.chance.choice([inner, chunked() + inner, chunked(inner), inner + inner])


@family
def cut_short(d: Draft) -> bytes:
    raw = d.raw()
    return raw[: d.chance.randrange(1, len(raw))]


@family
def gone_at_once(d: Draft) -> None:
    """All of it is sent, and nobody waits for the answer."""
    d.reset = True
    if d.chance.random() < 0.3:
        d.length = [b"Content-Length: %d" % (len(d.body) + 10)]


@family
def pipelined(d: Draft) -> bytes | None:
    d.again = d.chance.choice([2, 3, 8])
    choice, raw = d.chance.randrange(4), d.raw()
    if choice == 1:
        return b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % d.way + raw
    if choice == 2:
        return b"\r\n\r\n" + raw + noise(d.chance)
    if choice == 3:
        return noise(d.chance) + b"\r\n\r\n" + raw
    return None


@family
def request_lines(d: Draft) -> bytes | None:
    raw, line = d.raw(), d.lines()[0]
    way = d.way
    return raw.replace(
        line,
        d.chance.choice(
            [
                *(b"POST %b HTTP/1.0" % way, b"POST %b HTTP/0.9" % way, b"POST %b HTTP/2.0" % way),
                *(b"POST %b HTTP/1.10" % way, b"POST %b http/1.1" % way, b"POST %b" % way, b"POST"),
                *(
                    b"POST  %b HTTP/1.1" % way,
                    b"POST\t%b\tHTTP/1.1" % way,
                    b"POST %b HTTP/1.1 x" % way,
                ),
                *(b"POST http://127.0.0.1%b HTTP/1.1" % way, b"POST http://evil%b HTTP/1.1" % way),
                *(b"POST //%b HTTP/1.1" % way, b"POST * HTTP/1.1", b"POST 127.0.0.1:80 HTTP/1.1"),
                *(
                    b"POST %b#a HTTP/1.1" % way,
                    b"POST \\%b HTTP/1.1" % way,
                    b" POST %b HTTP/1.1" % way,
                ),
                *(b"", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM", noise(d.chance)),
            ]
        ),
        1,
    )


@family
def methods(d: Draft) -> None:
    known = b"PATCH PUT DELETE OPTIONS TRACE CONNECT GET HEAD"
    odd = [
        b"post",
        b"Post",
        b"POST\x00",
        b"P\xd6ST",
        b"M" * 30,
        b"M" * 9_000,
        b"PO ST",
        b"#",
        b"X-Y",
        b"",
    ]
    d.method = d.chance.choice([*known.split(), b"PROPFIND", b"QUERY", b"PURGE", *odd])
    if d.chance.random() < 0.3:
        d.method, d.headers = b"GET", [b"X-HTTP-Method-Override: POST"]


@family
def paths(d: Draft) -> None:
    """What follows the view's path leads to it; what is put before does not."""
    after = [
        *(
            b"%00",
            b"%00/",
            b"a%00b/",
            b"%ff%fe/",
            b"%zz/",
            b"%",
            b"%0a%0d/",
            b"%e2%80%ae/",
            b"%ed%a0%80/",
        ),
        *(
            b"..%2f..%2f",
            b"../../plain/",
            b"./",
            b"%2e%2e/",
            b"a/" * 500,
            b"p" * 3_000,
            b"p" * 9_000,
        ),
        *(
            b"\xff\xfe/",
            b"\x00/",
            b"a b/",
            b"\t/",
            b"<script>/",
            b"%3Cscript%3E/",
            b"%25s%s{0}/",
            b";a=b/",
        ),
        quote(noise(d.chance)) + b"/",
    ]
    d.target = d.chance.choice(
        [d.way + d.chance.choice(after), b"//" + d.way, d.way[:-1], b"/%00" + d.way]
    )


def quote(raw: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in raw)


@family
def queries(d: Draft) -> None:
    choices = [
        *(
            b"%00",
            b"%00=%00",
            b"a=%ff",
            b"%ff",
            b"a=%",
            b"a=%zz",
            b"=",
            b"&&&",
            b"a;b",
            b"?",
            b"a=1#b",
        ),
        *(
            b"a=" + b"v" * 3_000,
            b"&".join([b"n=1"] * 1_500),
            b"&" * 3_000,
            b"\xff\xfe",
            b"a b",
            b"%ed%a0%80",
        ),
        *(
            b"idempotency_key=" + d.key,
            b"format=html",
            b"format=%00",
            b"sku=" + d.sku,
            quote(noise(d.chance)),
        ),
    ]
    d.target += b"?" + d.chance.choice(choices)


@family
def line_ends(d: Draft) -> bytes | None:
    d.eol = d.chance.choice([b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\x00\r\n", b"\x85"])
    return None


@family
def mutated(d: Draft) -> bytes:
    """Some bytes of the head changed, anywhere; the key may be another good one afterwards."""
    raw = bytearray(d.raw())
    head = raw.index(b"\r\n\r\n") + 4
    for _ in range(d.chance.randrange(1, 6)):
        at = d.chance.randrange(head)
        raw[at : at + d.chance.randrange(3)] = noise(d.chance, 3)
    d.same_key = False
    return bytes(raw)


@family
def pure_noise(d: Draft) -> bytes:
    return noise(d.chance, 4_000)
