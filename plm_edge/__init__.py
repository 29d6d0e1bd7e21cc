"""plm-edge: convert, run, deploy and measure PLM language models on edge devices."""

__version__ = "0.1.0"
