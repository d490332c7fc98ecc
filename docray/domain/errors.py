"""Every error docray raises on purpose.

    DocrayError                        internal             500
    ├── InvalidRequest                 invalid_request
    │   ├── MalformedJson              malformed_json       400
    │   ├── MalformedMultipart         malformed_multipart  400
    │   ├── InvalidField               invalid_field        422
    │   ├── IdempotencyKeyReused       idempotency_key_reused 422
    │   ├── MethodNotAllowed           method_not_allowed   405
    │   └── RangeNotSatisfiable        range_not_satisfiable 416
    ├── Unauthenticated                authentication       401
    │   ├── MissingCredentials         missing_credentials
    │   └── InvalidCredentials         invalid_credentials
    ├── InsufficientScope              permission           403
    ├── NotFound                       not_found            404
    ├── Conflict                       conflict
    │   ├── IdempotencyInProgress      idempotency_in_progress 409
    │   ├── NotFailed                  not_failed           409
    │   ├── DuplicateName              duplicate_name       409
    │   ├── ReindexUnderWay            reindex_under_way    409
    │   ├── ReindexNotBuilt            reindex_not_built    409
    │   ├── ReindexNotSwitched         reindex_not_switched 409
    │   ├── ReindexEnded               reindex_ended        409
    │   └── PreconditionFailed         precondition_failed  412
    ├── TooLarge                       too_large            413
    ├── UnsupportedMedia               unsupported_media    415
    │   ├── NotAPdf                    not_a_pdf
    │   └── UnsupportedContentType     unsupported_content_type
    ├── RateLimit                      rate_limit           429
    │   ├── RateLimited                rate_limited
    │   └── Overloaded                 overloaded
    ├── Unavailable                    unavailable          503
    ├── LostLease                      (internal: the fence moved on)
    ├── RunInProgress                  (internal: a bulk run has another driver)
    └── ExtractionFailed               (internal: a file that cannot be read; carries a FailureCode)

The class docstring is the default message: it is shown to callers and says what to do. State lives in `args`, positional, so that
every error survives pickling through Ray. HTTP statuses are `docray.api.error_responses`' business.
"""

from docray.domain.documents import FAILURE_MESSAGES, FailureCode


class DocrayError(Exception):
    """Something went wrong on our side. Try again; if it stays, report the request id."""

    type = "internal"
    code = "internal"
    retryable = False

    def __init__(self, message: str | None = None, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, param, retry_after_s)
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        """What to tell the caller."""
        return str(self.args[0] or type(self).__doc__)

    def __str__(self) -> str:
        return self.message


class InvalidRequest(DocrayError):
    """The request is not valid."""

    type = "invalid_request"
    code = "invalid_field"


class MalformedJson(InvalidRequest):
    """The body is not valid JSON. Send one JSON object in UTF-8."""

    code = "malformed_json"


class MalformedMultipart(InvalidRequest):
    """The multipart body is broken or ended early. Send the whole form again."""

    code = "malformed_multipart"


class InvalidField(InvalidRequest):
    """A field is not valid."""

    code = "invalid_field"


class IdempotencyKeyReused(InvalidRequest):
    """This Idempotency-Key was used for another request. Use a new key."""

    code = "idempotency_key_reused"


class MethodNotAllowed(InvalidRequest):
    """This path does not know that method. See the Allow header."""

    code = "method_not_allowed"


class RangeNotSatisfiable(InvalidRequest):
    """The range lies outside the file. Ask for bytes that it has."""

    code = "range_not_satisfiable"


class Unauthenticated(DocrayError):
    """Credentials are needed for that. Send `Authorization: Bearer <api key>`."""

    type = "authentication"
    code = "invalid_credentials"


class MissingCredentials(Unauthenticated):
    """Credentials are missing. Send `Authorization: Bearer <api key>`."""

    code = "missing_credentials"


class InvalidCredentials(Unauthenticated):
    """The credentials are not valid. Check the key, or ask an administrator for a new one."""

    code = "invalid_credentials"


class InsufficientScope(DocrayError):
    """These credentials do not allow that. Use a key with the scope it needs."""

    type = "permission"
    code = "insufficient_scope"


class NotFound(DocrayError):
    """There is nothing here by that name or id."""

    type = "not_found"
    code = "not_found"


class Conflict(DocrayError):
    """The request does not fit the present state."""

    type = "conflict"
    code = "conflict"


class IdempotencyInProgress(Conflict):
    """A request with this Idempotency-Key is still running. Wait for its answer or send it again later."""

    code = "idempotency_in_progress"
    retryable = True


class NotFailed(Conflict):
    """Only a failed document can be tried again."""

    code = "not_failed"


class DuplicateName(Conflict):
    """The name is taken. Choose another one."""

    code = "duplicate_name"


class ReindexUnderWay(Conflict):
    """A reindex is being built. Switch it when it is built, or roll it back, and start again."""

    code = "reindex_under_way"


class ReindexNotBuilt(Conflict):
    """Some documents are not built yet. Wait until none is waiting, then switch."""

    code = "reindex_not_built"
    retryable = True


class ReindexNotSwitched(Conflict):
    """The old form still answers. Switch the reindex first, or roll it back to end it."""

    code = "reindex_not_switched"


class ReindexEnded(Conflict):
    """This reindex has ended. Start another one."""

    code = "reindex_ended"


class PreconditionFailed(Conflict):
    """The document has changed since that ETag. Read it again and repeat the change."""

    code = "precondition_failed"


class TooLarge(DocrayError):
    """The file is larger than this service accepts. Split it, or ask the operator to raise the limit."""

    type = "too_large"
    code = "too_large"


class UnsupportedMedia(DocrayError):
    """The body is of a kind that is not understood here."""

    type = "unsupported_media"
    code = "unsupported_content_type"


class NotAPdf(UnsupportedMedia):
    """This is not a PDF: no %PDF- stands in its first 1,024 bytes. Send a PDF file."""

    code = "not_a_pdf"


class UnsupportedContentType(UnsupportedMedia):
    """This Content-Type is not understood here. See the documentation of this call."""

    code = "unsupported_content_type"


class RateLimit(DocrayError):
    """Too many requests. Try again after the time in Retry-After."""

    type = "rate_limit"
    code = "rate_limited"
    retryable = True


class RateLimited(RateLimit):
    """The limit of requests is reached. Try again after the time in Retry-After."""

    code = "rate_limited"


class Overloaded(RateLimit):
    """The service is busy. Try again after the time in Retry-After."""

    code = "overloaded"


class Unavailable(DocrayError):
    """A part of the service is not available. Try again after the time in Retry-After."""

    type = "unavailable"
    code = "unavailable"
    retryable = True


class LostLease(DocrayError):
    """The work was taken over by another worker, or the document was deleted."""


class RunInProgress(DocrayError):
    """Another driver runs this job. Wait until it has ended; one that died is given up after a minute."""


class ExtractionFailed(DocrayError):
    """A file that cannot be read. `args[0]` is the FailureCode; the message is its standard sentence."""

    def __init__(self, failure: FailureCode | str) -> None:
        super().__init__(FailureCode(failure))
        self.args = (FailureCode(failure),)

    @property
    def failure(self) -> FailureCode:
        """Why, as a code of the API."""
        return FailureCode(self.args[0])

    @property
    def message(self) -> str:
        """The sentence for the one who uploaded the file."""
        return FAILURE_MESSAGES[self.failure]
