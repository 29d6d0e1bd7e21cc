// Rows of W_down that the sparse product read, as our ggml-cpu counts them. Stock llama.cpp's has no counters.

#pragma once

#include "protocol.h"

void reset_rows();
json read_rows(); // [{"layer": …, "rows": …, "read": …}] since the last reset; empty where nothing counts them
json read_head(); // the share of the output matrix's rows that were read; null where it was not multiplied in two stages
