"""This package speaks with plm-edge-bench (native/), the program that measures, wherever it runs.

`events` is what it answers, `clock` brings its times to this machine's, `client` writes requests
and reads answers, `process` runs it here, `counting` counts its instructions under an emulator.
"""
