"""Who may come in: not while draining, not without the token, not from another site's page."""

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from wavestill.serving.refusals import Refusal


class Gate:
    """Checks that come before any work.

    Arguments:
        token: What clients must bear; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)
        self.is_draining = False
        self.is_local = False  # only this machine can reach it

    @property
    def asks_for_token(self) -> bool:
        """Whether there is a token."""
        return self._digest is not None

    def check(self, connection: HTTPConnection) -> None:
        """Let a request in.

        Raises:
            Refusal: 503, 401 or 403.
        """
        self.check_open()
        self.check_origin(connection)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        self.check_token(token.strip() if scheme.lower() == "bearer" else None)

    def check_open(self) -> None:
        """Raises Refusal 503 if the service is about to end."""
        if self.is_draining:
            raise Refusal(503, "the service is shutting down; ask another", retry_after_s=5)

    def check_token(self, token: object) -> None:
        """Compare digests, in a time that tells nothing of either.

        Raises:
            Refusal: 401.
        """
        if self._digest is None:
            return
        given = _digest(token) if isinstance(token, str) else b""
        if not hmac.compare_digest(self._digest, given):
            raise Refusal(401, "this service asks for 'Authorization: Bearer <token>'")

    def check_origin(self, connection: HTTPConnection) -> None:
        """Browsers name the page that asks: it must be of this very service.

        Otherwise any site that its user visits could speak with a service on their own machine.

        Of an open service for this machine alone, it must go by a name that nobody else can give:
        a site may point its own name here, and its pages would be of this origin.

        Raises:
            Refusal: 403.
        """
        host = connection.headers.get("host", "")
        if self.is_local and not self.asks_for_token and not _is_own_name(host):
            raise Refusal(403, "ask for this service as localhost, or give it a token")
        origin = connection.headers.get("origin")
        if origin is None:
            return
        try:
            asking = urlsplit(origin).netloc.lower()
        except ValueError:
            asking = ""
        if not asking or asking != connection.headers.get("host", "").lower():
            raise Refusal(403, "pages of other sites may not use this service")


def _is_own_name(host: str) -> bool:
    """Whether a `Host` is an address, or a name that always means the machine itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
