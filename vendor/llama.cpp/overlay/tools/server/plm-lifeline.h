// A server ends with the program that started it, in whatever way that ends: PLM_EDGE_LIFELINE=stdin says that its
// standard input is a pipe which that program holds, and never writes to. Without the variable nothing is watched.

#pragma once

void plm_lifeline_watch();
