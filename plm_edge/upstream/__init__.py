"""The pinned upstream: this room fetches llama-cpp-python by hash and patches its llama.cpp.

It runs inside the package build too, before anything is installed: it imports the standard library
(and tomli before Python 3.11), `base.errors` and `base.files`, nothing else. What is wrong with
upstream is a PlmEdgeError, a disk's error an OSError. `folder` is always the one with PIN.toml,
series, patches/ and overlay/ (vendor/llama.cpp); the patched tree is its `.tree`.
"""
