"""Parameters that many calls share."""

from typing import Annotated

from fastapi import Path, Query

from docray.api.schemas.fields import Id, Text

DocumentId = Annotated[Id, Path(description="The document")]
CollectionId = Annotated[Id, Path(description="The collection")]
JobId = Annotated[Id, Path(description="The job")]
ReindexId = Annotated[Id, Path(description="The reindex")]
KeyId = Annotated[Id, Path(description="The key")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many")]
After = Annotated[Text | None, Query(min_length=1, description="`next_cursor` of the page before")]


