"""What the app is built from. `docray.wiring` makes a `Services`; tests make their own."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from docray.domain.access import Credentials, Tenants
from docray.domain.catalog import Catalog
from docray.domain.documents import Box
from docray.domain.idempotency import IdempotencyStore
from docray.domain.ports import BlobStore, HealthCheck
from docray.domain.principals import Principal
from docray.domain.questions import AnswerEvent, Question, SearchRequest, SearchResults
from docray.domain.reindexes import IndexForm
from docray.ingestion.intake import Intake
from docray.ingestion.service import DocumentService
from docray.observability.health import Readiness
from docray.security.authentication import Authenticator
from docray.security.rates import RequestRates
from docray.settings import Settings


class Searches(Protocol):
    """`docray.answering.retrieval.SearchService`."""

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """Passages that the principal may see now, best first."""
        ...


class Answers(Protocol):
    """`docray.answering.service.AnswerService`."""

    @property
    def models(self) -> Sequence[str]:
        """Names that a question may give as `model`."""
        ...

    def answer(self, principal: Principal, question: Question) -> AsyncIterator[AnswerEvent]:
        """Found once, Delta and Cited as they come, Finished last. Closing it stops the model."""
        ...


class PagePictures(Protocol):
    """`docray.ingestion.sandbox.client.Parser`."""

    async def render(self, path: Path, page: int, *, scale: float, highlight: Sequence[Box]) -> bytes:
        """A page as PNG, `scale` pixels a point, the boxes marked. ExtractionFailed when it cannot be drawn."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """Ports and services, ready for use in this event loop."""

    settings: Settings
    catalog: Catalog
    credentials: Credentials
    tenants: Tenants
    idempotency: IdempotencyStore
    blobs: BlobStore
    search: Searches
    answers: Answers
    pages: PagePictures
    index_form: IndexForm  # what a reindex brings: the newest model loaded here, its cut
    present_model: str  # what searches of a tenant without documents go by
    health: Sequence[HealthCheck] = ()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the routes use: the services, and what is made of them once per app."""

    services: Services
    authenticator: Authenticator
    rates: RequestRates
    intake: Intake
    documents: DocumentService
    readiness: Readiness = field(repr=False)

    @classmethod
    def of(cls, services: Services) -> "Parts":
        """The parts for these services."""
        return cls(
            services=services,
            authenticator=Authenticator(services.credentials),
            rates=RequestRates(services.settings.requests_per_minute),
            intake=Intake(services.blobs, services.settings.max_document_bytes),
            documents=DocumentService(services.catalog, services.blobs),
            readiness=Readiness(services.health),
        )
