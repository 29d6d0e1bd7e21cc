#pragma once

// Stands in for ggml-cuda/convert.cuh: its casts are in common.cuh.

#include "common.cuh"
