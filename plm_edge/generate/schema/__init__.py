"""A JSON schema holds an answer to its form: as a grammar meanwhile, by a validator at the end."""

from plm_edge.generate.schema.schema import Schema

__all__ = ["Schema"]
