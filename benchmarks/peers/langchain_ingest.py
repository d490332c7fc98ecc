"""LangChain as its users write it: PDFs → PyMuPDF → recursive splitter → sentence-transformers → FAISS, then searches over HTTP.

    python langchain_ingest.py --source FOLDER [--store FOLDER] [--port PORT]

No overlap between chunks, as docray has none: it would have a fifth more to embed.
"""

from serving import CHUNK_CHARACTERS, Search, Told, options, serve, weights


def searching(store: object) -> Search:
    """Searches of a store."""
    return lambda query, limit: [
        {"source": document.metadata["source"], "page": document.metadata["page"] + 1, "text": document.page_content, "score": float(score)}
        for document, score in store.similarity_search_with_score(query, k=limit)  # type: ignore[attr-defined]
    ]


def main() -> None:
    """Ingests, tells, serves."""
    arguments, told = options(), Told()
    from langchain_community.document_loaders import PyMuPDFLoader
    from langchain_community.vectorstores import FAISS
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    embeddings = HuggingFaceEmbeddings(model_name=weights(), encode_kwargs={"normalize_embeddings": True})
    told.step("start")
    pages = [page for path in sorted(arguments.source.glob("*.pdf")) for page in PyMuPDFLoader(str(path)).load()]
    told.step("read")
    chunks = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=0).split_documents(pages)
    told.step("split")
    store = FAISS.from_documents(chunks, embeddings)
    told.step("embed")
    if arguments.store:
        store.save_local(str(arguments.store))
    told.end(pages=len(pages), chunks=len(chunks))
    if arguments.port:
        serve(searching(store), arguments.port)


if __name__ == "__main__":
    main()
