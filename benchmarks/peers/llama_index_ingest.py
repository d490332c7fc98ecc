"""LlamaIndex as its users write it: PDFs → PyMuPDF reader → sentence splitter → sentence-transformers → FAISS, then searches over HTTP.

    python llama_index_ingest.py --source FOLDER [--store FOLDER] [--port PORT]

Its splitter counts tokens of a tokeniser of OpenAI's, which it would have to download: here it counts characters, 1,000 a chunk.
"""

from serving import CHUNK_CHARACTERS, Search, Told, options, serve, weights

DIMENSION = 384


def searching(index: object) -> Search:
    """Searches of an index."""
    retrievers: dict[int, object] = {}

    def search(query: str, limit: int) -> list[dict[str, object]]:
        retriever = retrievers.setdefault(limit, index.as_retriever(similarity_top_k=limit))  # type: ignore[attr-defined]
        return [
            {"source": found.node.metadata["file_path"], "page": found.node.metadata["source"], "text": found.node.text, "score": float(found.score)}
            for found in retriever.retrieve(query)  # type: ignore[attr-defined]
        ]

    return search


def main() -> None:
    """Ingests, tells, serves."""
    arguments, told = options(), Told()
    import faiss
    from llama_index.core import Settings, StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.readers.file import PyMuPDFReader
    from llama_index.vector_stores.faiss import FaissVectorStore

    Settings.llm = None
    Settings.embed_model = HuggingFaceEmbedding(model_name=weights(), embed_batch_size=32)
    told.step("start")
    reader = PyMuPDFReader()
    pages = [page for path in sorted(arguments.source.glob("*.pdf")) for page in reader.load_data(path)]
    for page in pages:  # kept for the answer, but not embedded: it would have more to embed than docray
        page.excluded_embed_metadata_keys = page.excluded_llm_metadata_keys = list(page.metadata)
    told.step("read")
    splitter = SentenceSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=0, tokenizer=list)
    nodes = splitter.get_nodes_from_documents(pages)
    told.step("split")
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(DIMENSION))
    index = VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store))
    told.step("embed")
    if arguments.store:
        index.storage_context.persist(str(arguments.store))
    told.end(pages=len(pages), chunks=len(nodes))
    if arguments.port:
        serve(searching(index), arguments.port)


if __name__ == "__main__":
    main()
