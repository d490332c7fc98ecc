"""A question in, found passages and cited answers out.

Owns what a question goes through: filters, retrieval and fusion, evidence, the answer and its citations. Leaves where passages are kept to
the stores, who may see them to the catalogue, models to the engines, HTTP to `docray.api`.
"""
