"""Why a client gets no sound: a status and one line."""


class Refusal(Exception):
    """An answer other than sound.

    Arguments:
        status: Of HTTP.
        reason: One line for the client, with both values and the remedy.
        retry_after_s: When to come back, in whole seconds.
    """

    def __init__(self, status: int, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = " ".join(reason.split())  # it may hold what the client calls a speaker
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
