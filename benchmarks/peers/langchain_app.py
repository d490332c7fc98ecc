"""The FastAPI application over a saved index, as LangServe's users write it: `PEER_STORE=FOLDER python -m uvicorn langchain_app:app --workers 2`."""

import os

from langchain_community.vectorstores import FAISS
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_ingest import searching
from serving import application, weights

# The store was written by langchain_store.py on this machine: its pickle is ours.
_store = FAISS.load_local(
    os.environ["PEER_STORE"],
    HuggingFaceEmbeddings(model_name=weights(), encode_kwargs={"normalize_embeddings": True}),
    allow_dangerous_deserialization=True,
)
app = application(searching(_store))
