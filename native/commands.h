// What the program does, by the name in a request's "do".

#pragma once

#include "protocol.h"

void point(const json & request);     // a point of `plm-edge bench`: loaded, warm, sample …, done; or skipped
void rule(const json & request);      // what `repeat` makes of given seconds: sample …, done
void drops(const json & request);     // takes `file` out of the page cache: drops, with whether it is gone
void greedy(const json & request);    // the likeliest tokens after some: greedy
void products(const json & request);  // seconds of ggml's products of a matrix: products
void attention(const json & request); // seconds of latent attention: attention
void sparse(const json & request);    // seconds of the down projection, sparse and dense, on a device: sparse
void gpus(const json & request);      // the GPUs that the engine finds: gpus

// One engine held open, so that two processes are timed in turns and a long cache is filled once. False: no such name.
bool turn(const std::string & name, const json & request);
