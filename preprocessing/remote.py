"""Fetching an http(s) URL without being led anywhere private: the network half of `source.py`, for it alone.

A name is resolved once, every address it has must be public, and the connection goes to the address that was checked
(so that a name cannot answer differently the second time). Each redirect is checked like the first address. Bytes and
time are limited while reading; what the server declares is not trusted. Proxies from the environment are ignored: a
proxy would resolve the name itself. Knows nothing of media.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from omnirm.preprocessing.types import (
    MediaCorrupt,
    MediaError,
    MediaNotAllowed,
    MediaNotFound,
    MediaTimeout,
    MediaUnsupported,
    Policy,
    too_many_bytes,
)

MAX_REDIRECTS = 4
_BLOCK = 2**16
_SAFE = "/%:@!$&'()*+,;=~-._?[]"
_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32"),
        *("2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
]


def fetch(url: str, name: str, policy: Policy) -> bytes:
    """Download a URL into memory within the policy's limits of bytes and seconds.

    Args:
        url: http or https, without credentials.
        name: What to call it in messages.
        policy: Must allow remote references, and the host where `allow_hosts` is given.

    Raises:
        MediaNotAllowed: Remote is off, or the address (or one that it redirects to) may not be read.
        MediaNotFound: The host or the page does not exist, or does not answer.
        MediaTooLarge: The body is over `max_bytes`; reading stops there.
        MediaTimeout: The whole took longer than `timeout_s`.
        MediaCorrupt: The body ended before its declared length.
    """
    if not policy.allow_remote:
        raise MediaNotAllowed(name, "remote media are off", "allow them in the policy, or download it first")
    deadline = time.monotonic() + policy.limits.timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        parts = _check_url(url, name, policy)
        answer = _request(parts, name, policy, deadline)
        if isinstance(answer, bytes):
            return answer
        target = urljoin(url, answer)
        if parts.scheme == "https" and not target.lower().startswith("https:"):
            raise MediaNotAllowed(name, "redirects from https to something else", "give the final URL")
        url = target
    raise MediaNotAllowed(name, f"redirects more than {MAX_REDIRECTS} times", "give the final URL")


def is_public(address: str) -> bool:
    """Whether an IP address (in its canonical form) lies in the public internet.

    Private, loopback, link-local, carrier-grade NAT, documentation, multicast and reserved ranges are not public;
    nor are the IPv6 forms that carry an IPv4 address inside (mapped, 6to4, Teredo, NAT64).
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if getattr(ip, "scope_id", None) or not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in _REFUSED if network.version == ip.version)


def _check_url(url: str, name: str, policy: Policy) -> SplitResult:
    """The parts of a URL that may be asked for, its host in canonical form."""
    if any(c <= " " or c == "\\" or c == "\x7f" for c in url):
        raise MediaNotAllowed(name, "the URL holds spaces, backslashes or control characters", "quote them")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise MediaNotAllowed(name, f"is not a usable URL: {error}", "check the URL") from error
    host = host.removesuffix(".")
    if parts.scheme not in ("http", "https"):
        raise MediaNotAllowed(name, f"leads to a {parts.scheme or 'relative'} address", "only http and https are read")
    if parts.username is not None or parts.password is not None:
        raise MediaNotAllowed(name, "the URL carries a user name", "remove what stands before the @")
    if not host or "%" in host:
        raise MediaNotAllowed(name, "the URL names no host, or one with a zone", "check the URL")
    port = port if port is not None else {"http": 80, "https": 443}[parts.scheme]
    if port not in (80, 443) and port < 1024:
        raise MediaNotAllowed(name, f"port {port} serves no media", "use port 80, 443 or one above 1023")
    if policy.allow_hosts and not any(_matches(host, allowed) for allowed in policy.allow_hosts):
        raise MediaNotAllowed(name, f"host {host} is not among the allowed hosts", "allow it in the policy")
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return parts._replace(netloc=netloc)


def _matches(host: str, allowed: str) -> bool:
    """Whether a host is the allowed one, or below it where that begins with a dot or `*.`."""
    allowed = allowed.lower().removesuffix(".").removeprefix("*")
    return host.endswith(allowed) if allowed.startswith(".") else host == allowed


def _request(parts: SplitResult, name: str, policy: Policy, deadline: float) -> bytes | str:
    """One exchange: the body, or where it redirects to."""
    host, port = parts.hostname or "", parts.port or 80
    connection: http.client.HTTPConnection | None = None
    expired = threading.Event()
    try:
        link = _connect(_checked_addresses(host, port, name, deadline), port, deadline)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            link = context.wrap_socket(link, server_hostname=host, do_handshake_on_connect=False)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = link
        watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _hang_up, (link, expired))
        watchdog.daemon = True
        watchdog.start()
        try:
            if isinstance(link, ssl.SSLSocket):
                link.do_handshake()
            query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
            target = quote(parts.path or "/", safe=_SAFE) + query
            headers = {"Host": _host_header(parts), "Accept-Encoding": "identity", "User-Agent": "omnirm"}
            connection.request("GET", target, headers=headers)
            return _read(connection.getresponse(), name, policy, expired)
        finally:
            watchdog.cancel()
    except MediaError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            raise _too_slow(name, policy) from error
        if isinstance(error, http.client.IncompleteRead):
            raise MediaCorrupt(name, "the connection ended before the whole body had come", "try again") from error
        raise MediaNotFound(name, f"no answer from {host}: {error}", "check the URL and the network") from error
    finally:
        if connection is not None:
            connection.close()


def _host_header(parts: SplitResult) -> str:
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.removesuffix(default)


def _read(response: http.client.HTTPResponse, name: str, policy: Policy, expired: threading.Event) -> bytes | str:
    """The body of an answer, or its redirect target."""
    location = response.getheader("Location")
    if response.status in (301, 302, 303, 307, 308) and location:
        return location
    if response.status in (401, 403, 407):
        raise MediaNotAllowed(name, f"the server refuses it (HTTP {response.status})", "check the rights to it")
    if response.status != 200:
        raise MediaNotFound(name, f"the server answers HTTP {response.status}", "check the URL, or try again later")
    encoding = response.getheader("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise MediaUnsupported(name, f"the server compresses media ({encoding})", "download it first")
    declared = response.length  # None where the server declares no length
    if declared is not None and declared > policy.limits.max_bytes:
        raise too_many_bytes(name, declared, policy)
    blocks, total = [], 0
    while block := response.read(_BLOCK):
        total += len(block)
        if total > policy.limits.max_bytes:
            raise too_many_bytes(name, total, policy)
        blocks.append(block)
    if expired.is_set():
        raise _too_slow(name, policy)
    if declared is not None and total < declared:
        raise MediaCorrupt(name, f"{total} of {declared} bytes came before the connection ended", "try again")
    return b"".join(blocks)


def _checked_addresses(host: str, port: int, name: str, deadline: float) -> list[str]:
    """The addresses of a host, all of them public."""
    if _is_odd_ip(host):
        raise MediaNotAllowed(name, f"{host} is an unusual way to write an IP address", "write it in full or by name")
    addresses: list[str] = []
    failure: list[Exception] = []

    def look_up() -> None:
        try:
            addresses.extend(_resolve(host, port))
        except (OSError, UnicodeError) as error:
            failure.append(error)

    thread = threading.Thread(target=look_up, daemon=True)  # the system's resolver has no time limit of its own
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if thread.is_alive():
        raise TimeoutError
    if failure or not addresses:
        raise MediaNotFound(name, f"host {host} has no address", "check the URL and the network")
    for address in addresses:
        if not is_public(address):
            raise MediaNotAllowed(name, f"host {host} has the private or reserved address {address}", "not allowed")
    return list(dict.fromkeys(addresses))


def _is_odd_ip(host: str) -> bool:
    """Whether the system would read a host as an IPv4 address although it is not one in dotted decimals."""
    try:
        packed = socket.inet_aton(host)
    except (OSError, UnicodeError, ValueError):
        return False
    return socket.inet_ntoa(packed) != host


def _resolve(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses, as text."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first of the checked addresses that takes one."""
    failure: OSError = OSError("no address")
    for address in addresses[:4]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            return _dial(address, port, min(left, 10.0) if len(addresses) > 1 else left)
        except OSError as error:
            failure = error
    raise failure


def _dial(address: str, port: int, timeout: float) -> socket.socket:
    """Connect to an IP address; no name is looked up here."""
    return socket.create_connection((address, port), timeout=timeout)


def _hang_up(link: socket.socket, expired: threading.Event) -> None:
    """End a connection whose time is over, whatever its peer is still sending."""
    expired.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(link, socket.SHUT_RDWR)  # beneath TLS, whose own shutdown would wait for the peer


def _too_slow(name: str, policy: Policy) -> MediaTimeout:
    seconds = policy.limits.timeout_s
    return MediaTimeout(name, f"the download took longer than {seconds:g} s", "try again or raise Limits.timeout_s")
