"""Chunks → a FAISS index of LangChain's: `python langchain_store.py --chunks FILE.json --store FOLDER`. The file is a list of texts."""

import argparse
import json
from pathlib import Path

from langchain_community.vectorstores import FAISS
from langchain_huggingface import HuggingFaceEmbeddings
from serving import weights


def main() -> None:
    """Embeds and saves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    arguments = parser.parse_args()
    texts = json.loads(arguments.chunks.read_text(encoding="utf-8"))
    embeddings = HuggingFaceEmbeddings(model_name=weights(), encode_kwargs={"normalize_embeddings": True})
    places = [{"source": "chunk", "page": place} for place in range(len(texts))]
    FAISS.from_texts(texts, embeddings, metadatas=places).save_local(str(arguments.store))


if __name__ == "__main__":
    main()
