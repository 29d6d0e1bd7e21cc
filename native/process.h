// What the system knows of this process and of files.

#pragma once

#include "protocol.h"

#include <string>

long long peak_rss(); // bytes

// Bytes of this process by the names of /proc/self/status: VmHWM (peak), VmRSS, RssAnon, RssFile.
json memory();

// Takes a file out of the page cache. Returns whether (nearly) nothing of it is left there.
bool drop(const std::string & path);
