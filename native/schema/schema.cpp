// A JSON schema becomes a grammar in GBNF: upstream's own converter, as a library of one function for Python.
//
// The converter is a part of upstream's library for programs, which brings an argument parser, HTTP and more. Here
// stand, besides it, the three functions of that library that it calls.

#include "common.h"
#include "json-schema-to-grammar.h"

#include <cstring>
#include <exception>
#include <string>
#include <vector>

#ifdef _WIN32
#define PLM_EDGE_EXPORT extern "C" __declspec(dllexport)
#else
#define PLM_EDGE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

std::string string_join(const std::vector<std::string> & values, const std::string & separator) {
    std::string joined;
    for (size_t i = 0; i < values.size(); i++) {
        joined += (i > 0 ? separator : "") + values[i];
    }
    return joined;
}

std::vector<std::string> string_split(const std::string & text, const std::string & delimiter) {
    std::vector<std::string> parts;
    size_t start = 0;
    for (size_t end; (end = text.find(delimiter, start)) != std::string::npos; start = end + delimiter.length()) {
        parts.push_back(text.substr(start, end - start));
    }
    parts.push_back(text.substr(start));
    return parts;
}

std::string string_repeat(const std::string & text, size_t n) {
    std::string repeated;
    for (size_t i = 0; i < n; i++) {
        repeated += text;
    }
    return repeated;
}

// Writes the grammar of a schema, or the reason that there is none, with a final zero, as far as `capacity` bytes
// go. Returns its length: positive for a grammar, negative for a reason.
PLM_EDGE_EXPORT long plm_edge_schema_to_gbnf(const char * schema, char * out, size_t capacity) {
    std::string result;
    bool made = true;
    try {
        result = json_schema_to_grammar(common_json::parse(schema), /* force_gbnf = */ true);
    } catch (const std::exception & error) {
        result = error.what();
        made = false;
    }
    if (capacity > 0) {
        const size_t length = std::min(result.size(), capacity - 1);
        std::memcpy(out, result.data(), length);
        out[length] = 0;
    }
    return made ? (long) result.size() : -(long) result.size();
}
