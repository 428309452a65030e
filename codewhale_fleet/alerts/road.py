"""One request by https to where an adapter points, guarded, within one span of time for all of it.

Promises: https only, the certificate verified, no redirect followed, nothing tried again, nothing
connected to that `guard` refuses, and an end after `seconds`, whatever hangs: names, connections,
handshakes or answers. Words of trouble hold no URL, no key and nothing that the other side said.
Knows nothing of alerts.
"""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from . import guard

if TYPE_CHECKING:
    import socket

    from httpcore2 import ConnectionPool, NetworkStream, Proxy

SECONDS = 10.0
"""For everything: name, connection, handshake, request, answer."""
BODY_BYTES = 512
"""Most of an answer's body that is kept."""


class Request(Struct, frozen=True, kw_only=True):
    """What is posted, and where to."""

    url: str
    headers: dict[str, str]
    body: bytes
    allow_networks: list[str] = []
    """Networks that may be reached although they are refused otherwise."""


class Answer(Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


class Trouble(Exception):
    """There was no answer. `final`: trying again as it stands cannot help."""

    def __init__(self, words: str, *, final: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.final = final


def post(request: Request, surroundings: Mapping[str, str], seconds: float = SECONDS) -> Answer:
    """Post it and wait for the head of the answer; Trouble where none came."""
    parts = parsed(request.url)
    exchange = _Exchange(request, parts, surroundings, seconds)
    thread = Thread(target=exchange.carry_out, name="alert", daemon=True)
    thread.start()
    thread.join(seconds)
    hangs = thread.is_alive()
    if hangs:
        exchange.give_up()
    ended = exchange.ended
    if isinstance(ended, Answer):
        return ended
    raise Trouble(f"there was no answer within {seconds:g} s") if hangs else ended


def parsed(url: str) -> SplitResult:
    """The parts of a URL that may be posted to; a final Trouble otherwise."""
    wrong = ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Trouble("holds no URL", final=True) from None
    if parts.scheme == "http":
        wrong = "holds an http URL, and alerts go by https only"
    elif parts.scheme != "https" or not host:
        wrong = "holds no https URL"
    elif not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        wrong = "holds an https URL with characters that have to be encoded"
    if wrong:
        raise Trouble(wrong, final=True)
    return parts


class _Exchange:
    """One request on a thread of its own, so that whoever waits for it can stop waiting."""

    def __init__(
        self, request: Request, parts: SplitResult, surroundings: Mapping[str, str], seconds: float
    ) -> None:
        self.request = request
        self.parts = parts
        self.surroundings = surroundings
        self.seconds = seconds
        self.ended: Answer | Exception = Trouble("it was not sent")
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._over = False

    def carry_out(self) -> None:
        """Send, wait, keep the answer or the trouble in `ended`."""
        try:
            self.ended = self._posted()
        except Exception as error:
            if not isinstance(self.ended, Answer):
                self.ended = error if isinstance(error, Trouble) else trouble_of(error)
        finally:
            self._shut()

    def give_up(self) -> None:
        """Wake the thread wherever it waits for the other side."""
        self._over = True
        self._shut()

    def watch(self, stream: "NetworkStream") -> None:
        """Remember a connection, by a descriptor of its own: TLS takes the first one over."""
        with self._lock:
            self._sockets.append(stream.get_extra_info("socket").dup())
        if self._over:
            self._shut()

    def _shut(self) -> None:
        import socket

        with self._lock:
            for one in self._sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                one.close()
            self._sockets.clear()

    def _posted(self) -> Answer:
        headers = dict(self.request.headers)
        if self.parts.username is not None:
            user, password = unquote(self.parts.username), unquote(self.parts.password or "")
            headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        host = self.parts.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        port = f":{self.parts.port}" if self.parts.port else ""
        path = self.parts.path or "/"
        query = f"?{self.parts.query}" if self.parts.query else ""
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), self.seconds)
        with (
            self._pool() as pool,
            pool.stream(
                "POST",
                f"https://{shown}{port}{path}{query}",
                headers=list(headers.items()),
                content=self.request.body,
                extensions={"timeout": timeout},
            ) as response,
        ):
            answer = Answer(
                status=response.status,
                headers={
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                },
                body=b"",
            )
            self.ended = answer  # stands, even if its body hangs
            body = b""
            if response.status >= 400:
                for part in response.iter_stream():
                    body += part
                    if len(body) >= BODY_BYTES:
                        break
            return replace(answer, body=body[:BODY_BYTES])

    def _pool(self) -> "ConnectionPool":
        from httpcore2 import ConnectionPool, SyncBackend

        allowed = guard.networks(self.request.allow_networks)
        host = self.parts.hostname or ""
        proxy = proxy_for(host, self.surroundings)
        exchange = self

        class Backend(SyncBackend):
            def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> "NetworkStream":
                places = [host] if proxy else guard.checked(host, port, allowed)
                for last, place in enumerate(places, 1 - len(places)):
                    try:
                        stream = super().connect_tcp(place, port, *args, **more)
                    except Exception:
                        if last == 0 or exchange._over:
                            raise
                        continue
                    exchange.watch(stream)
                    return stream
                raise AssertionError("a name without addresses")

        if proxy:
            guard.check_literal(host, allowed)
        return ConnectionPool(
            ssl_context=trusted(self.surroundings),
            proxy=_proxy(proxy, self.surroundings) if proxy else None,
            network_backend=Backend(),
            retries=0,
        )


def _proxy(url: str, surroundings: Mapping[str, str]) -> "Proxy":
    from httpcore2 import Proxy

    at = urlsplit(url)
    auth = None
    if at.username is not None:
        auth = (unquote(at.username).encode(), unquote(at.password or "").encode())
    return Proxy(
        f"{at.scheme}://{at.netloc.rpartition('@')[2]}",
        auth=auth,
        ssl_context=trusted(surroundings) if at.scheme == "https" else None,
    )


def trusted(surroundings: Mapping[str, str]) -> ssl.SSLContext:
    """Whose certificates are believed: SSL_CERT_FILE and SSL_CERT_DIR, else the system's."""
    file, folder = surroundings.get("SSL_CERT_FILE"), surroundings.get("SSL_CERT_DIR")
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except (OSError, ssl.SSLError):
        raise Trouble("SSL_CERT_FILE names no file of certificates", final=True) from None


def proxy_for(host: str, surroundings: Mapping[str, str]) -> str:
    """The proxy that a host is reached through, as HTTPS_PROXY and NO_PROXY say; empty: none."""
    proxy = surroundings.get("https_proxy") or surroundings.get("HTTPS_PROXY") or ""
    without = surroundings.get("no_proxy") or surroundings.get("NO_PROXY") or ""
    if not proxy or _is_among(host, without):
        return ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        at = urlsplit(proxy)
        fine = at.scheme in ("http", "https") and at.hostname and (at.port or True)
    except ValueError:
        fine = False
    if not fine:
        raise Trouble("HTTPS_PROXY names no http proxy", final=True)
    return proxy


def _is_among(host: str, names: str) -> bool:
    """Whether NO_PROXY, names with commas between them, holds a host or what it ends in."""
    for name in names.lower().split(","):
        plain = name.strip().lstrip(".")
        if plain and (plain == "*" or host == plain or host.endswith(f".{plain}")):
            return True
    return False


def trouble_of(error: Exception) -> Trouble:
    """What went wrong on the way, in words without names or addresses."""
    import socket

    import httpcore2

    seen: BaseException | None = error
    while seen is not None:
        match seen:
            case guard.RefusedAddress():
                words = f"its host is {seen.kind}, and such addresses are refused"
                return Trouble(words, final=True)
            case ssl.SSLCertVerificationError():
                return Trouble(_certificate(seen))
            case ssl.SSLError():
                return Trouble("no TLS connection could be made")
            case socket.gaierror() | UnicodeError():
                return Trouble("its host's name could not be resolved")
            case ConnectionRefusedError():
                return Trouble("the connection was refused")
            case ConnectionResetError() | BrokenPipeError() | httpcore2.RemoteProtocolError():
                return Trouble("the connection was broken before there was an answer")
            case httpcore2.ProxyError():
                return Trouble("the proxy did not connect to it")
            case TimeoutError() | httpcore2.TimeoutException():
                return Trouble(f"there was no answer within {SECONDS:g} s")
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, OSError | httpcore2.NetworkError):
        return Trouble("the host could not be reached")
    return Trouble(f"it was not sent ({type(error).__name__})")


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
        return "its certificate is for another name"
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return "its certificate has expired"
    return "its certificate is of no authority known here; SSL_CERT_FILE names others"
