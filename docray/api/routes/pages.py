"""Pages of a document, as words with boxes and as pictures."""

import hashlib
import math
from typing import Annotated

from fastapi import Path, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from docray.api import render
from docray.api.calls import Reading
from docray.api.conditional import etag, not_modified
from docray.api.openapi import IF_NONE_MATCH, media, unchanged
from docray.api.routes.paths import DocumentId
from docray.api.routing import make_router, needs
from docray.api.schemas.documents import Page
from docray.domain.documents import Box
from docray.domain.errors import ExtractionFailed, InvalidField, Unavailable
from docray.security.scopes import READ

router = make_router("documents")

_MAX_BOXES = 200
_MAX_COORDINATE = 1e6  # points; the largest PDF page has 14,400



def _digits(text: object) -> object:
    """A page number is written in digits only: `1.0` and `+1` name no page."""
    if isinstance(text, str) and not (text.isascii() and text.isdecimal()):
        raise ValueError("This is no page number.")
    return text


PageNumber = Annotated[int, BeforeValidator(_digits), Path(ge=1, le=2**31 - 1, description="The page, from 1")]
Scale = Annotated[float, Query(ge=0.5, le=4, allow_inf_nan=False, description="Pixels a point")]
_BOXES = r"^(-?\d{1,5}(\.\d{1,4})?(,-?\d{1,5}(\.\d{1,4})?){3};?)*$"  # for programs that read OpenAPI; other ways to write numbers work too
Highlight = Annotated[str, Query(description="Boxes to mark: `x0,y0,x1,y1;…`, at most 200", json_schema_extra={"pattern": _BOXES})]


@router.get(
    "/v1/documents/{document_id}/pages/{page}.png",
    response_class=Response,
    responses={**media("image/png", "The page"), **unchanged()},
    openapi_extra={"parameters": [IF_NONE_MATCH]},
)
@needs(READ)
async def read_page_picture(call: Reading, document_id: DocumentId, page: PageNumber, scale: Scale = 2.0, highlight: Highlight = "") -> Response:
    """Draws a page, with boxes marked."""
    boxes = parse_boxes(highlight)
    async with call.transaction() as tx:
        await tx.documents.page(document_id, page)
        content = await tx.documents.content(document_id)
    tag = etag(content.sha256[:16], page, hashlib.sha256(repr((content.sha256, scale, boxes)).encode()).hexdigest()[:16])
    if unchanged_response := not_modified(call.request, tag):
        return unchanged_response
    path = await call.services.blobs.open(content.blob_key)
    try:
        picture = await call.services.pages.render(path, page, scale=scale, highlight=boxes)
    except ExtractionFailed as error:
        raise Unavailable("The page could not be drawn now. Try again.") from error
    return Response(picture, headers={"ETag": tag, "Cache-Control": "private, no-cache"}, media_type="image/png")


@router.get("/v1/documents/{document_id}/pages/{page}", response_model=Page)
@needs(READ)
async def read_page(call: Reading, document_id: DocumentId, page: PageNumber) -> Response:
    """Reads a page: its text, and its words with boxes."""
    async with call.transaction() as tx:
        found = await tx.documents.page(document_id, page)
    return Response(render.dumps(render.page(found)), media_type="application/json")


def parse_boxes(text: str) -> list[Box]:
    """`x0,y0,x1,y1;…` in points. InvalidField for anything else, and for more than 200 of them."""
    boxes: list[Box] = []
    for piece in filter(None, text.split(";")):
        numbers = piece.split(",")
        try:
            x0, y0, x1, y1 = map(float, numbers)
        except ValueError:
            raise InvalidField(f"highlight: {_FORM}", "highlight") from None
        if not all(math.isfinite(number) and abs(number) <= _MAX_COORDINATE for number in (x0, y0, x1, y1)) or x0 >= x1 or y0 >= y1:
            raise InvalidField(f"highlight: {_FORM}", "highlight")
        boxes.append((x0, y0, x1, y1))
        if len(boxes) > _MAX_BOXES:
            raise InvalidField(f"highlight: Mark at most {_MAX_BOXES} boxes at a time.", "highlight")
    return boxes


_FORM = "Write boxes as `x0,y0,x1,y1;…` in points, with x0 < x1 and y0 < y1."
