"""The Python API: `from plm_edge import Model` loads a model and generates with it."""

from plm_edge.api.answer import Answer, Stream
from plm_edge.api.model import Model
from plm_edge.api.settings import Settings
from plm_edge.base.errors import PlmEdgeError
from plm_edge.generate.logprobs import ChosenLogprob, TokenLogprob
from plm_edge.generate.prompt import Message
from plm_edge.generate.stats import Stats

__all__ = [
    "Answer",
    "ChosenLogprob",
    "Message",
    "Model",
    "PlmEdgeError",
    "Settings",
    "Stats",
    "Stream",
    "TokenLogprob",
]
