// The protocol of plm-edge-bench: requests on stdin, events on stdout, each a line of JSON.

#pragma once

#include <nlohmann/json.hpp>

#include <stdexcept>
#include <string>

using nlohmann::json;

double now(); // seconds of a clock that only goes forward

// Takes stdout for events alone: whatever else the process prints goes to stderr from here on.
void claim_stdout();

// Writes one event. It carries "now", by which the reader finds out where this clock's zero lies on its own.
void say(const char * event, json members = json::object());

// An error for a person: plm_edge.base.errors.PlmEdgeError, with its exit code.
struct failure : std::runtime_error {
    failure(const std::string & what, std::string why, std::string fix, int code)
        : std::runtime_error(what), why(std::move(why)), fix(std::move(fix)), code(code) {}

    std::string why, fix;
    int code;
};

// plm_edge.base.errors.ExitCode
enum { USAGE = 2,
       INPUT = 3,
       ENVIRONMENT = 4,
       RESOURCES = 5 };
