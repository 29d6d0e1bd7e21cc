"""The coarse form of an output matrix, by which most logits are never computed exactly.

The engine multiplies with it first, and with the matrix's own rows for the likeliest tokens alone
(vendor/llama.cpp/overlay/ggml/src/plm-head/plm-head.h has the form, ggml-cpu/plm/head the product).
"""
