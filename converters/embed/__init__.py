"""A model's token embedding in parts, by `plm-edge convert --embed`.

As tensor trains (TensorGPT, arXiv 2307.00526; TensorSLM, arXiv 2506.13514), or as a rank-1 part and
what is left over of it. vendor/llama.cpp/overlay/src/models/plm-embed.h has both forms.
"""
