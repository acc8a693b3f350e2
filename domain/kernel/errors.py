"""Every refusal a caller can meet, as one tree. HTTP knows them only in `api/errors.py`.

Refusal
├── Unauthenticated        no or no valid credential
├── Forbidden              a valid credential that may not do this
├── Invalid                the request is wrong as it stands
├── NotFound               no such thing, or not yours
├── Conflict               another state of things is in the way
├── TooLarge               the body is over the limit
├── Unprocessable          well formed, but cannot be taken
├── OutOfCredit            the money does not reach
├── TooMany                a limit of the key, workspace or gateway is reached
├── UpstreamFailed         every provider that could be asked failed
└── Unavailable            we cannot serve at the moment; nothing was charged
"""


class Refusal(Exception):
    """A request that is not served. Nothing is charged for it.

    `code` is part of the public contract and never changes; `message` is a sentence that says what to do next;
    `param` names the field at fault, where there is one; `retry_after` is in whole seconds. `repeatable` is False where
    the same request made again could cost a second time.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        repeatable: bool = True,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.repeatable = repeatable


class Unauthenticated(Refusal):
    pass


class Forbidden(Refusal):
    pass


class Invalid(Refusal):
    pass


class NotFound(Refusal):
    pass


class Conflict(Refusal):
    pass


class TooLarge(Refusal):
    pass


class Unprocessable(Refusal):
    pass


class OutOfCredit(Refusal):
    pass


class TooMany(Refusal):
    pass


class UpstreamFailed(Refusal):
    pass


class Unavailable(Refusal):
    pass
