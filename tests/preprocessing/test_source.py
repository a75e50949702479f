"""Only what the policy allows is opened: files, `data:` URIs, and URLs that stay in the public internet."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.preprocessing import remote
from omnirm.preprocessing.source import describe, open_source
from omnirm.preprocessing.types import (
    Limits,
    MediaCorrupt,
    MediaError,
    MediaNotAllowed,
    MediaNotFound,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
)

CONTENT = b"some bytes of a medium"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """An allowed folder with a file, and a secret outside of it."""
    allowed, outside = tmp_path / "allowed", tmp_path / "allowed_not"
    allowed.mkdir(), outside.mkdir()
    (allowed / "a b%20c.bin").write_bytes(CONTENT)
    (allowed / "a.bin").write_bytes(CONTENT)
    (outside / "secret.bin").write_bytes(b"secret")
    return allowed, outside


# Files


def test_ways_to_name_a_file(folders, monkeypatch):
    path = folders[0] / "a.bin"
    monkeypatch.chdir(folders[0])
    for ref in (path, str(path), "a.bin", f"file://{path}", f"file://localhost{path}", f"FILE:{path}", "./a.bin"):
        source = open_source(ref)
        assert source.read() == CONTENT
        assert source.path == path.resolve()
        assert source.data is None
        assert source.size == len(CONTENT)
        assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert source.head(4) == CONTENT[:4]
        with source.open() as stream:
            assert stream.read() == CONTENT


def test_file_uris_with_and_without_escapes(folders):
    path = folders[0] / "a b%20c.bin"
    assert open_source(f"file://{path}").read() == CONTENT  # written without escaping, as many do
    assert open_source(f"file://{str(path).replace('%', '%25').replace(' ', '%20')}").read() == CONTENT


def test_bytes_and_sources_pass_through():
    for ref in (CONTENT, bytearray(CONTENT), memoryview(CONTENT)):
        source = open_source(ref)
        assert source.data == CONTENT
        assert source.path is None
        assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert open_source(source) is source


@pytest.mark.parametrize(
    "ref",
    [
        "{outside}/secret.bin",
        "{allowed}/../allowed_not/secret.bin",
        "{allowed}/x/../../allowed_not/secret.bin",
        "file://{outside}/secret.bin",
        "file://{allowed}/%2e%2e/allowed_not/secret.bin",
        "file://{allowed}/..%2fallowed_not%2fsecret.bin",
        "{allowed}/link",
        "{allowed}/folder/secret.bin",
        "{outside}/no such file",
        "/etc/passwd",
        "/proc/self/environ",
        "../../../../../../../../../../etc/passwd",
        "",
        "\0",
        "{allowed}/a.bin\0.png",
        "file://{allowed}/a.bin%00.png",
        "file://elsewhere{allowed}/a.bin",
    ],
)
def test_nothing_outside_the_roots_is_opened(folders, ref):
    allowed, outside = folders
    (allowed / "link").symlink_to(outside / "secret.bin")
    (allowed / "folder").symlink_to(outside)
    with pytest.raises(MediaNotAllowed):
        open_source(ref.format(allowed=allowed, outside=outside), Policy(roots=(allowed,)))


def test_links_within_the_roots_are_fine(folders):
    allowed, outside = folders
    (outside / "way").symlink_to(allowed / "a.bin")
    policy = Policy(roots=(outside, allowed))
    assert open_source(outside / "way", policy).path == (allowed / "a.bin").resolve()
    (allowed / "sub").mkdir()
    assert open_source(allowed / "sub" / ".." / "a.bin", Policy(roots=(allowed,))).read() == CONTENT


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    before = time.monotonic()
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "socket", Path("/dev/zero"), Path("/dev/stdin")):
        with pytest.raises((MediaNotAllowed, MediaNotFound)):
            open_source(path)
    assert time.monotonic() - before < 5
    listener.close()


@pytest.mark.parametrize("name", ["no.bin", "no/such.bin", "x" * 5000, "\ud800.bin", "loop", "a.bin/b"])
def test_missing_files(folders, name):
    (folders[0] / "loop").symlink_to(folders[0] / "loop")
    with pytest.raises(MediaNotFound):
        open_source(f"{folders[0]}/{name}")


def test_empty_and_too_large(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    for ref in (tmp_path / "empty", b"", "data:,", "data:image/png;base64,"):
        with pytest.raises(MediaCorrupt, match="empty"):
            open_source(ref)
    with pytest.raises(MediaTooLarge, match="limit"):
        open_source(tmp_path / "sparse")


def test_a_file_that_changes_after_the_check_is_noticed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    source = open_source(path)
    path.unlink()
    path.write_bytes(b"something else entirely")
    with pytest.raises(MediaCorrupt, match="changed"):
        source.read()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(MediaError):
        source.read()


def test_digests_follow_the_content(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first", b"other"):  # of one length, quickly after each other
        path.write_bytes(content)
        assert open_source(path).sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("ref", [None, 3, 2.5, object(), ["a.png"], {"a": 1}])
def test_what_refers_to_nothing(ref):
    with pytest.raises(MediaUnsupported):
        open_source(ref)


@pytest.mark.parametrize("ref", ["ftp://h/a.png", "s3://b/a.png", "concat://a", "gopher://127.0.0.1", "rtsp://h/s"])
def test_other_schemes_are_refused(ref):
    with pytest.raises(MediaNotAllowed):
        open_source(ref, Policy(allow_remote=True))


# data: URIs


@given(st.binary(min_size=1, max_size=200))
def test_data_uris_round_trip(content):
    encoded = base64.b64encode(content).decode()
    assert open_source(f"data:image/png;base64,{encoded}").data == content
    assert open_source(f"DATA:;charset=x;BASE64,{encoded[:10]}\n {encoded[10:]}").data == content
    assert open_source("data:text/plain," + "".join(f"%{byte:02x}" for byte in content)).data == content


@pytest.mark.parametrize("ref", ["data:image/png;base64", "data:;base64,####", "data:;base64,abc", "data:;base64,ab=c"])
def test_damaged_data_uris(ref):
    with pytest.raises(MediaCorrupt):
        open_source(ref)


def test_data_uris_are_measured_before_they_are_decoded(monkeypatch):
    def never(*args, **options):
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr(base64, "b64decode", never)
    policy = Policy(limits=Limits(max_bytes=1000))
    with pytest.raises(MediaTooLarge):
        open_source("data:image/png;base64," + "A" * 2000, policy)
    with pytest.raises(MediaTooLarge):
        open_source("data:image/png," + "A" * 4000, policy)


# Names in messages


def test_names_are_short_printable_and_without_secrets():
    assert "pass" not in describe("https://user:pass@host/x.png?token=pass")
    assert describe("https://host/x.png?token=1") == "https://host/x.png"
    assert describe("data:image/png;base64," + "A" * 9999).startswith("<data:")
    assert describe(b"1234") == "<4 bytes>"
    assert len(describe("/" + "x" * 9999)) < 300
    assert describe("a\x1b[31m\u202e\n\ud800.png").isprintable()


# URLs. The tests' resolver says which addresses a name has, and the tests' dialler leads "public" addresses to a local
# server; what is asked of both is recorded.


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        handler = PAGES.get(self.path.partition("?")[0])
        self.server.seen.append((self.path, dict(self.headers)))
        if handler is None:
            return self.send_error(404)
        try:
            return handler(self)
        except OSError:  # the client hung up, as it should
            self.server.hung_up += 1
            self.close_connection = True

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers = {"Content_Length": str(len(body)), **headers}
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def _endless(handler, declared=""):
    handler.answer(200, Content_Length=declared)
    while True:
        handler.wfile.write(b"x" * 65536)


def _dripping(handler):
    handler.answer(200, Content_Length="1000")
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def _slow_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(200):
        handler.wfile.write(b"X-%d: y\r\n" % i)
        time.sleep(0.1)


def _chunks(handler, end=b"0\r\n\r\n"):
    handler.answer(200, Content_Length="", Transfer_Encoding="chunked")
    handler.wfile.write(b"5\r\nhello\r\n6\r\n world\r\n" + end)


PAGES = {
    "/ok": lambda h: h.answer(200, CONTENT),
    "/error": lambda h: h.answer(500),
    "/secret": lambda h: h.answer(403),
    "/gone": lambda h: h.answer(410),
    "/hop": lambda h: h.answer(302, Location="/ok"),
    "/hop-other-host": lambda h: h.answer(302, Location="http://other.example:8080/ok"),
    "/hop-loopback": lambda h: h.answer(302, Location="http://127.0.0.1:8080/ok"),
    "/hop-metadata": lambda h: h.answer(307, Location="http://169.254.169.254/latest/meta-data"),
    "/hop-private-name": lambda h: h.answer(301, Location="http://inside.example:8080/ok"),
    "/hop-decimal": lambda h: h.answer(302, Location="http://2130706433:8080/ok"),
    "/hop-no-scheme": lambda h: h.answer(302, Location="//127.0.0.1:8080/ok"),
    "/hop-file": lambda h: h.answer(302, Location="file:///etc/passwd"),
    "/hop-ftp": lambda h: h.answer(302, Location="ftp://public.example/x"),
    "/hop-loop": lambda h: h.answer(302, Location="/hop-loop"),
    "/endless": _endless,
    "/endless-liar": lambda h: _endless(h, declared="10"),
    "/dripping": _dripping,
    "/slow-headers": _slow_headers,
    "/huge": lambda h: h.answer(200, b"x", Content_Length=str(2**50)),
    "/short": lambda h: (h.answer(200, b"x" * 10, Content_Length="100"), setattr(h, "close_connection", True)),
    "/chunked": _chunks,
    "/chunked-short": lambda h: (_chunks(h, b"99\r\nabc"), setattr(h, "close_connection", True)),
    "/gzip": lambda h: h.answer(200, b"x" * 10, Content_Encoding="gzip"),
    "/garbage": lambda h: (h.wfile.write(b"\0\1\2 not http\r\n\r\n"), setattr(h, "close_connection", True)),
    "/empty": lambda h: h.answer(200),
}


class _Net:
    """A small internet: names, and one server behind every public address."""

    def __init__(self, monkeypatch):
        self.names = {
            "public.example": [["8.8.8.8"]],
            "other.example": [["1.1.1.1"]],
            "inside.example": [["10.0.0.5"]],
            "mixed.example": [["8.8.8.8", "192.168.0.1"]],
            "flip.example": [["8.8.8.8"], ["127.0.0.1"]],
            "six.example": [["2606:4700:4700::1111"]],
        }
        self.looked_up: list[str] = []
        self.dialled: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
        self.server.daemon_threads = True
        self.server.seen, self.server.hung_up = [], 0
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setattr(remote, "_resolve", self.resolve)
        monkeypatch.setattr(remote, "_dial", self.dial)

    def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        if host in self.names:
            answers = self.names[host]
            return answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry[4][0] for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        self.dialled.append(address)
        return socket.create_connection(self.server.server_address, timeout=timeout)

    def get(self, url: str, **options) -> bytes:
        limits = Limits(max_bytes=options.pop("max_bytes", 10**6), timeout_s=options.pop("timeout_s", 20.0))
        source = open_source(url, Policy(allow_remote=True, limits=limits, **options))
        assert source.path is None
        return source.data


@pytest.fixture
def net(monkeypatch):
    net = _Net(monkeypatch)
    yield net
    net.server.shutdown()
    net.server.server_close()


def test_remote_is_off_by_default(net):
    with pytest.raises(MediaNotAllowed, match="remote media are off"):
        open_source("http://public.example:8080/ok")
    assert net.looked_up == []


def test_a_page_is_fetched_from_the_address_that_was_checked(net):
    assert net.get("http://public.example:8080/ok?a=b%20c") == CONTENT
    assert net.dialled == ["8.8.8.8"]
    assert net.looked_up == ["public.example"]
    path, headers = net.server.seen[0]
    assert path == "/ok?a=b%20c"
    assert headers["Host"] == "public.example:8080"


def test_a_name_that_changes_its_address_is_asked_once(net):
    assert net.get("http://flip.example:8080/ok") == CONTENT
    assert net.looked_up == ["flip.example"]
    assert net.dialled == ["8.8.8.8"]
    with pytest.raises(MediaNotAllowed):  # the second fetch sees the flipped name, and stops
        net.get("http://flip.example:8080/ok")
    assert net.dialled == ["8.8.8.8"]


def test_ipv6_and_redirects_and_chunks(net):
    assert net.get("http://six.example:8080/ok") == CONTENT
    assert net.dialled == ["2606:4700:4700::1111"]
    assert net.get("http://public.example:8080/hop") == CONTENT
    assert net.get("http://public.example:8080/hop-other-host") == CONTENT
    assert net.dialled[-1] == "1.1.1.1"
    assert net.get("http://public.example:8080/chunked") == b"hello world"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.254",
        "0.0.0.0",
        "0",
        "0.0.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "inside.example",
        "mixed.example",
        "INSIDE.example",
        "public.example@127.0.0.1",
        "user@public.example",
        "user:pass@public.example",
        "127.0.0.1#@public.example",
        "127.0.0.1\\@public.example",
        "public.example:22",
        "public.example:99999",
        "public.example:x",
        "",
        ":80",
        " public.example",
        "public.example\t",
        "public.example\r\nHost: inside",
        "[",
        "[8.8.8.8]",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "xn--\udcff",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_that_are_never_asked(net, scheme, host):
    with pytest.raises(MediaNotAllowed):
        net.get(f"{scheme}://{host}/ok")
    assert net.dialled == []


def test_localhost_by_the_systems_own_resolver(monkeypatch):
    asked = []
    monkeypatch.setattr(remote, "_dial", lambda *args: asked.append(args))
    for host in ("localhost", "LOCALHOST", "localhost."):
        with pytest.raises((MediaNotAllowed, MediaNotFound)):
            open_source(f"http://{host}:8000/", Policy(allow_remote=True))
    assert asked == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("/hop-") and page != "/hop-other-host"])
def test_redirects_never_lead_inside_or_for_ever(net, page):
    with pytest.raises(MediaNotAllowed):
        net.get(f"http://public.example:8080{page}")
    assert set(net.dialled) == {"8.8.8.8"}
    assert len(net.dialled) <= remote.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("allowed", "fine"),
    [
        (("public.example",), True),
        (("Public.Example.",), True),
        ((".example",), True),
        (("*.example",), True),
        (("example",), False),
        (("other.example",), False),
        (("lic.example",), False),
        (("inside.example",), False),
    ],
)
def test_allowed_hosts(net, allowed, fine):
    if fine:
        assert net.get("http://public.example:8080/ok", allow_hosts=allowed) == CONTENT
    else:
        with pytest.raises(MediaNotAllowed):
            net.get("http://public.example:8080/ok", allow_hosts=allowed)
        assert net.dialled == []


def test_redirects_keep_to_the_allowed_hosts(net):
    with pytest.raises(MediaNotAllowed, match="not among"):
        net.get("http://public.example:8080/hop-other-host", allow_hosts=("public.example",))


@pytest.mark.parametrize("page", ["/endless", "/huge"])
def test_endless_bodies_stop_at_the_limit(net, page):
    with pytest.raises(MediaTooLarge):
        net.get(f"http://public.example:8080{page}", max_bytes=300_000)


def test_more_than_declared_is_not_read(net):
    assert net.get("http://public.example:8080/endless-liar") == b"x" * 10


@pytest.mark.parametrize("page", ["/dripping", "/slow-headers"])
def test_slow_servers_are_left_in_time(net, page):
    before = time.monotonic()
    with pytest.raises(MediaTimeout):
        net.get(f"http://public.example:8080{page}", timeout_s=0.5)
    assert time.monotonic() - before < 5


def test_a_resolver_that_hangs_is_left_in_time(net, monkeypatch):
    monkeypatch.setattr(remote, "_resolve", lambda host, port: time.sleep(3) or [])
    before = time.monotonic()
    with pytest.raises(MediaTimeout):
        net.get("http://public.example:8080/ok", timeout_s=0.3)
    assert time.monotonic() - before < 2.5


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("/nothing", MediaNotFound),
        ("/gone", MediaNotFound),
        ("/error", MediaNotFound),
        ("/secret", MediaNotAllowed),
        ("/short", MediaCorrupt),
        ("/chunked-short", MediaCorrupt),
        ("/empty", MediaCorrupt),
        ("/gzip", MediaUnsupported),
        ("/garbage", MediaNotFound),
    ],
)
def test_other_answers(net, page, error):
    with pytest.raises(error):
        net.get(f"http://public.example:8080{page}")


def test_hosts_that_do_not_answer(net, monkeypatch):
    def refuse(*args):
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(remote, "_dial", refuse)
    with pytest.raises(MediaNotFound):
        net.get("http://public.example:8080/ok")
    with pytest.raises(MediaNotFound):
        net.get("http://no-such-name.example:8080/ok")
    with pytest.raises(MediaNotFound):
        net.get(f"http://{'a' * 70}.example:8080/ok")


def test_https_wants_a_valid_certificate(net):
    with pytest.raises(MediaNotFound):
        net.get("https://public.example:8443/ok", timeout_s=5.0)
