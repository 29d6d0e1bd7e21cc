#include "protocol.h"

#include <chrono>
#include <cstdio>
#include <unistd.h>

static FILE * events = stdout;

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void claim_stdout() {
    events = fdopen(dup(STDOUT_FILENO), "w");
    dup2(STDERR_FILENO, STDOUT_FILENO);
}

void say(const char * event, json members) {
    members["event"] = event;
    members["now"] = now();
    // what a model's file says may be no UTF-8
    fprintf(events, "%s\n", members.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
    fflush(events);
}
