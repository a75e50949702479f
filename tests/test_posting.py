"""Talking to a service: what is tried again, what is told about a failure, and what never is."""

from __future__ import annotations

import base64
import socket

import pytest
from local_server import serving, status
from made_media import encoded_image

from omnirm import posting
from omnirm.errors import BackendError, ConfigError
from omnirm.posting import Endpoint, Refused, data_uri, in_parallel
from omnirm.preprocessing import MediaError
from omnirm.types import Part

SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Retries wait without waiting; the pauses asked for."""
    asked = []
    monkeypatch.setattr(posting, "_sleep", asked.append)
    return asked


def in_turn(*answers):
    rest = iter(answers)
    return lambda _: next(rest)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(code, pauses):
    with serving(in_turn(status(code), status(code), {"fine": 1})) as server:
        assert Endpoint(server.url, retries=2).post({"n": 1}) == {"fine": 1}
        assert [payload for _, _, payload in server.seen] == [{"n": 1}] * 3
    assert pauses == [0.5, 1.0]


def test_retries_are_bounded(pauses):
    with serving(lambda _: status(503)) as server:
        with pytest.raises(Refused, match="503"):
            Endpoint(server.url, retries=5).post({})
        assert len(server.seen) == 6
    assert pauses == [0.5, 1, 2, 4, 8]


def test_a_lost_connection_is_tried_again():
    with serving(in_turn(None, [])) as server:
        assert Endpoint(server.url).post({}) == []
        assert len(server.seen) == 2


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refusal_of_one_request_is_final_and_says_why(code):
    with (
        serving(lambda _: status(code, {"error": {"message": "5000 tokens\x1b[2J are too many"}})) as server,
        pytest.raises(Refused, match=rf"HTTP {code}: 5000 tokens<U\+001B>\[2J are too many"),
    ):
        Endpoint(server.url).post({})
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [301, 307, 308, 401, 403, 404, 405])
def test_what_is_true_of_every_request_is_no_refusal_of_one(code):
    with serving(lambda _: (code, b"<html>", {"Location": "http://127.0.0.1:1/"})) as server:
        with pytest.raises(BackendError, match=str(code)) as caught:
            Endpoint(server.url, api_key=SECRET).post({})
        assert len(server.seen) == 1
    assert not isinstance(caught.value, Refused)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x?token={SECRET}"
        with pytest.raises(BackendError, match=r"/x cannot be reached \(Connection refused\)") as caught:
            Endpoint(url, retries=0).post({})
    assert SECRET not in str(caught.value)
    assert not isinstance(caught.value, Refused)


def test_no_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Refused, match=r"no answer within 0\.05 s"):
            Endpoint(url, timeout=0.05, retries=1).post({})


@pytest.mark.parametrize("body", [b"", b"not json", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_json(body):
    with serving(lambda _: (200, body, {})) as server, pytest.raises(Refused, match="not JSON"):
        Endpoint(server.url).post({})


def test_an_endless_answer_is_not_read():
    with serving(lambda _: "x" * 2000) as server, pytest.raises(Refused, match="more than 1000 bytes"):
        Endpoint(server.url, most_bytes=1000).post({})


def test_the_key_travels_in_its_header_and_in_no_message():
    with serving(lambda _: status(400, {"message": f"bad key {SECRET}!"})) as server:
        endpoint = Endpoint(f"{server.url}/a?token=hidden", api_key=SECRET)
        with pytest.raises(Refused, match=r"bad key \*\*\*!") as caught:
            endpoint.post({})
        path, headers, _ = server.seen[0]
    assert (path, headers["Authorization"]) == ("/a?token=hidden", f"Bearer {SECRET}")
    told = f"{caught.value} {endpoint.name} {caught.value.__cause__}"
    assert SECRET not in told
    assert "hidden" not in told


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/",
        "file:///etc/passwd",
        "http://",
        "http://a b/",
        "http://h:99999/",
        "http://[/",
    ],
)
def test_no_url(url):
    with pytest.raises(ConfigError, match="http://host"):
        Endpoint(url)


@pytest.mark.parametrize("url", [f"http://user:{SECRET}@host/", f"https://{SECRET}@host"])
def test_a_url_with_credentials_is_refused_without_repeating_them(url):
    with pytest.raises(ConfigError, match="api_key") as caught:
        Endpoint(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry(key):
    with pytest.raises(ConfigError, match="api_key") as caught:
        Endpoint("http://host", api_key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"retries": -1}, {"retries": True}])
def test_numbers_out_of_range(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Endpoint("http://host", **options)


def test_in_parallel_keeps_the_order_and_stops_at_the_first_error():
    assert in_parallel(lambda n: n * n, range(50), 7) == [n * n for n in range(50)]
    begun = []

    def work(n):
        begun.append(n)
        raise BackendError(f"number {n}")

    with pytest.raises(BackendError, match="number 0"):
        in_parallel(work, range(500), 2)
    assert len(begun) < 500


def test_media_as_data_uris(tmp_path):
    png = encoded_image("PNG")
    (tmp_path / "a.png").write_bytes(png)
    expected = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    for value in (str(tmp_path / "a.png"), tmp_path / "a.png", png, expected, f"data:text/html;base64,{expected[22:]}"):
        assert data_uri(Part("image", value)) == expected


@pytest.mark.parametrize("value", ["missing.png", "http://example.com/a.png", b"<svg/>", object()])
def test_what_is_no_medium_is_not_sent(value):
    with pytest.raises(MediaError):
        data_uri(Part("image", value))
