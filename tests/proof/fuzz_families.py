"""The families of hostile requests; which member of one is sent is left to chance.

Some bodies are missing because Django or REST framework cannot read them, with a key or without:
``test_fuzz_raw`` sends them on their own.
"""

from __future__ import annotations

import gzip
import json
from urllib.parse import quote_from_bytes

from tests.proof.fuzz_shots import FORM, Draft, family, noise

DEEP = 20_000
NAME = b"Idempotency-Key"


# -- the header with the key


@family
def spelled_alike(d: Draft) -> None:
    """Other spellings of the key itself."""
    k = d.key
    quoted = b'"%b"' % k
    values = [quoted, b"   " + k, k + b"  ", b"\t" + k, quoted + b";a=1", quoted + b'; b="x;y"']
    names = [NAME, NAME.lower(), NAME.upper(), b"iDEMPOTENCY-kEY"]
    d.keys = [d.chance.choice(names) + b":" + d.chance.choice(values)]


@family
def broken_keys(d: Draft) -> None:
    """No key at all, whatever they look like."""
    k = d.key
    values = [
        *(b"", b" ", b'"', b'""', b"'%b'," % k, b'"%b' % k, b'%b"' % k, b'"%b" x' % k),
        *(b'"%b", "%b"' % (k, k), b"%b,%b" % (k, k), b"%b %b" % (k, k), b'"%b";;' % k),
        *(k + b"\x00", b'"%b\x00"' % k, k + b"\xff\xfe", k + "ключ".encode(), b"\xef\xbb\xbf" + k),
        *(k + b"\x7f", k + b"\x1b[2J", k + b"\x0b", b"\xa0" + k, k + b"\x85", k + b"\\", b";" + k),
        *(b'"%b\\n"' % k, b'"%b";a=%%"%%ff"' % k, k * 8, b"k" * 256, b"k" * 9_000),
    ]
    d.keys = [NAME + b": " + d.chance.choice(values)]


@family
def doubled_keys(d: Draft) -> None:
    line, other = NAME + b": " + d.key, NAME + b": other-" + d.key
    under = b"Idempotency_Key: " + d.chance.choice([d.key, b"under-" + d.key])
    choices = [[line, line], [line, other], [other, line], [line, under], [under, line], [line] * 9]
    d.keys = d.chance.choice([*choices, [line, NAME + b":"], [NAME + b":", line]])


@family
def odd_lines(d: Draft) -> None:
    """Folded, without a colon, with spaces where none may be, with other line ends."""
    k, name = d.key, NAME
    d.keys = d.chance.choice(
        [
            [name + b": " + k, b" and-more"],
            [name + b":", b" " + k],
            [b" " + name + b": " + k],
            [name + b" : " + k],
            [name + b"\t: " + k],
            [name + b" " + k],
            [b": " + k],
            [b"Idempotency_Key: " + k],
            [b"Idempotency Key: " + k],
            [b"X-Idempotency-Key: " + k],
            [name + b"\x00: " + k],
            [name + b": " + k + b"\rX-A: b"],
            [name + b": " + k + b"\nX-A: b"],
            [b"X-A: b\n" + name + b": " + k],
            [b"X-A: b\r" + name + b": " + k],
            ["Ïdempotency-Key: ".encode() + k],
        ]
    )


@family
def foreign_keys(d: Draft) -> None:
    """Bytes of the key changed, cut out or put in: now and then that is another good key."""
    value = bytearray(d.key)
    for _ in range(d.chance.randrange(1, 4)):
        at = d.chance.randrange(len(value))
        value[at : at + d.chance.randrange(3)] = noise(d.chance, 3)
    d.keys = [NAME + b": " + bytes(value)]
    d.same_key = False


@family
def keys_in_the_form(d: Draft) -> None:
    """Where a form field carries the key, no server looks at it first."""
    values = [
        *(d.key, b'"%b"' % d.key, d.key + b"\x00", b"\x00", d.key + b"\xff", b"\xed\xa0\x80"),
        *(d.key + b"\r\nX-A: b", "ключ-".encode() + d.key, b"k" * 9_000, b"", noise(d.chance)),
        "\N{RIGHT-TO-LEFT OVERRIDE}".encode() + d.key,
    ]
    value = quote_from_bytes(d.chance.choice(values))
    d.way = d.target = b"/form/"
    d.kind, d.keys, d.same_key = FORM, d.chance.choice([[], None]), False
    d.body = b"sku=%b&qty=1&idempotency_key=%b" % (d.sku, value.encode())
    if d.chance.random() < 0.3:
        d.body += b"&idempotency_key=" + d.key


@family
def huge_headers(d: Draft) -> None:
    size = d.chance.choice([4_000, 8_189, 9_000, 70_000])
    choices = [
        [b"X-Large: " + b"x" * size],
        [b"X-%d: y" % number for number in range(d.chance.choice([90, 101, 2_000]))],
        [b"Cookie: sessionid=" + b"s" * size],
        [b"User-Agent: " + b"u" * size],
        [b"X-Request-ID: " + b"r" * size],
    ]
    d.headers = d.chance.choice(choices)


@family
def other_headers(d: Draft) -> None:
    """What is read beside the key: who asks, for what, from where."""
    odd = [
        *(b"", b"\xff\xfe", "ключ".encode(), b"%00%0a", b"a\tb", b"\x1b[31m", b"\x00", b'"', b";;"),
        *(b"=?utf-8?q?=00?=", b"<script>alert(1)</script>", noise(d.chance)),
    ]
    names = b"User-Agent X-Request-ID Cookie Authorization Accept Accept-Language Origin Referer"
    more = b"X-Forwarded-For X-HTTP-Method-Override X-CSRFToken Range If-Match Expect TE Upgrade"
    name = d.chance.choice([*names.split(), *more.split()])
    before = {b"Cookie": b"sessionid=", b"Authorization": b"Token "}.get(name, b"")
    d.headers = [name + b": " + before + d.chance.choice(odd)]
    if d.chance.random() < 0.2:
        d.headers = [d.chance.choice([b"Host: evil.example", b"Host: a b", b"Host:"])]
    if d.chance.random() < 0.2:
        d.headers = [b"Accept: " + d.chance.choice([b"text/html", b"*/*;q=x", b"a/b, c", b"/"])]


# -- the body


@family
def broken_json(d: Draft) -> None:
    order = d.body
    d.body = d.chance.choice(
        [
            *(b"", b"{", b"nul", b"null", b"[]", b'"x"', b"1", b"{}", b"\x00", b"\xff\xfe{"),
            *(order[:-1], order + b"}", order + order, order[:9], b"\xef\xbb\xbf" + order),
            *(order.decode().encode("utf-16"), order.replace(b"fuzz", b"f\xffzz"), noise(d.chance)),
            *(b"[" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP, b"9" * 5_000),
        ]
    )


@family
def odd_json(d: Draft) -> None:
    """The order is there, with members beside it that a view would never look at."""
    members = [
        *(b'"x":NaN', b'"x":-Infinity', b'"x":1e999', b'"x":-1e-999', b'"x":%b' % (b"9" * 5_000)),
        *(b'"x":"\\ud800"', b'"\\ud800":1', b'"\\u0000":"\\u0000"', b'"":""', b'"x":1,"x":2'),
        *(b'"x":%b' % (b"[" * 500 + b"]" * 500), b'"x":%b' % (b'{"y":' * 300 + b"1" + b"}" * 300)),
        *(b'"%b":1' % (b"n" * 9_000), b'"x":"%b"' % (b"v" * 200_000), b'"x":0.%b1' % (b"0" * 400)),
        *(b'"@path":1,"a.b":2,"a":{"b":3}', b'"__proto__":{"a":1}', b'"x":"<script>"'),
        b",".join(b'"n%d":%d' % (number, number) for number in range(3_000)),
        b'"x":%b' % json.dumps(noise(d.chance).decode("latin-1")).encode(),
        b'"%b":1' % json.dumps(noise(d.chance).decode("utf-16", "replace"))[1:-1].encode(),
        '"\N{RIGHT-TO-LEFT OVERRIDE}":"\U000e0001"'.encode(),
    ]
    d.body = d.body[:-1] + b"," + d.chance.choice(members) + b"}"


@family
def odd_forms(d: Draft) -> None:
    d.kind = FORM
    order = b"sku=%b&qty=1" % d.sku
    beside = [
        *(b"%00=%00", b"x=%ff%fe", b"%ff=x", b"=", b"&&&&", b"x=%", b"x=%zz", b"a;b", b"%u0041=1"),
        *(b"\xff\xfe=\xff", b"x=" + b"v" * 200_000, b"&".join([b"n=1"] * 1_500), b"x=%ed%a0%80"),
        quote_from_bytes(noise(d.chance)).encode(),
    ]
    d.body = d.chance.choice([order[:-8], order, order[4:], b"x" + order])
    d.body += b"&" + d.chance.choice(beside)


@family
def media_types(d: Draft) -> None:
    """What the body is said to be; it is JSON."""
    types = [
        *(
            b"",
            b"/",
            b"application/",
            b"application/json;",
            b"application/json;charset=",
            b"x" * 4_000,
        ),
        *(b"application/json; charset=utf-16", b"application/json; charset=no-such-thing"),
        *(b"application/json; charset=hex", b"application/json; charset=idna", b"text/plain"),
        *(b"APPLICATION/JSON", b"application/json, text/plain", b"application/json; a=\xff; b"),
        *(b'application/json; charset="utf-8', b"application/json; x*=utf-8''%ff", b"\xff/\xfe"),
        *(b"application/json; x*0=a; x*1=b", b"application/problem+json", b"a/b+json"),
        *(FORM + b"; charset=utf-16", FORM + b"; charset=hex", FORM + b";charset=\xff", FORM),
    ]
    d.kind = d.chance.choice(types)


@family
def multipart(d: Draft) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    file = b'--b\r\nContent-Disposition: form-data; name="f"; filename%b\r\n'
    file += b"Content-Type: %b\r\n\r\nx\r\n"
    order = part % (b"sku", d.sku) + part % (b"qty", b"1")
    names = [
        *(b'="a.txt"', b'="../../etc/passwd"', b'="\x00"', b'="%b"' % (b"n" * 5_000), b'=""'),
        *(
            b"*=utf-8''%ff",
            b"*=nothing''a",
            b"*=x",
            b'="a\\"b"',
            "=ключ".encode(),
            b'="\xff"',
            b"=..",
        ),
    ]
    kinds = [
        b"text/plain",
        b"",
        b"multipart/mixed; boundary=c",
        b"\xff",
        b"text/plain; charset=hex",
    ]
    encoded = (
        b"--b\r\nContent-Disposition: form-data; name=x\r\nContent-Transfer-Encoding: base64\r\n"
    )
    odd = [
        *(b"", part % (b"\xff", b"\xff"), part % (b"", b""), part % (b"x\x00", b"\x00")),
        *(encoded + b"\r\n!\r\n", encoded + b"\r\n\xff=\r\n", b"--b\r\n\r\nx\r\n", b"--b\r\nx\r\n"),
        b"--b\r\n" + b"X-A: b\r\n" * 500 + b"\r\nx\r\n",
        b"".join(part % (b"n%d" % number, b"v") for number in range(1_200)),
        file % (d.chance.choice(names), d.chance.choice(kinds)),
        file % (d.chance.choice(names), d.chance.choice(kinds)),
        noise(d.chance),
    ]
    boundaries = [b"; boundary=b"] * 8
    boundaries += [b"", b"; boundary=", b"; boundary=c", b'; boundary="b', b"; boundary=\xff"]
    boundaries += [b"; boundary=" + b"b" * 300, b"; boundary=b;charset=utf-16"]
    d.kind = b"multipart/form-data" + d.chance.choice(boundaries)
    d.body = order + d.chance.choice(odd) + d.chance.choice([b"--b--\r\n", b"--b--", b"--b", b""])
    if d.chance.random() < 0.2:
        d.body = d.body[: d.chance.randrange(len(d.body))]


@family
def encoded_bodies(d: Draft) -> None:
    packed = gzip.compress(d.body)
    coding = d.chance.choice(
        [b"gzip", b"x-gzip", b"deflate", b"br", b"identity", b"gzip, gzip", b""]
    )
    d.headers = [b"Content-Encoding: " + coding]
    d.body = d.chance.choice([packed, packed[:-4], d.body, packed + packed])
