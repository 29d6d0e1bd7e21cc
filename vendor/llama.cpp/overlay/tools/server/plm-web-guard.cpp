#include "plm-web-guard.h"

#include <algorithm>
#include <cstring>

#ifdef _WIN32
#include <ws2tcpip.h>
#else
#include <arpa/inet.h>
#endif

namespace {

struct authority {
    std::string host; // lower case; an address in its shortest form and without brackets
    std::string port; // digits, or empty
};

bool one_of(char c, const char * chars) {
    return c != 0 && std::strchr(chars, c) != nullptr;
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
    return text;
}

std::string stripped(const std::string & text) {
    const size_t first = text.find_first_not_of(" \t");
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string> items(const std::string & list) {
    std::vector<std::string> found;
    for (size_t at = 0; at <= list.size();) {
        const size_t comma = std::min(list.find(',', at), list.size());
        if (std::string item = lower(stripped(list.substr(at, comma - at))); !item.empty()) {
            found.push_back(std::move(item));
        }
        at = comma + 1;
    }
    return found;
}

// "a.example", "127.0.0.1", "[::1]", each with ":port" or without; false for everything else
bool parse(const std::string & text, authority & out) {
    std::string host;
    std::string rest;
    if (!text.empty() && text[0] == '[') {
        const size_t close = text.find(']');
        in6_addr address;
        if (close == std::string::npos || inet_pton(AF_INET6, text.substr(1, close - 1).c_str(), &address) != 1) {
            return false;
        }
        char shortest[INET6_ADDRSTRLEN];
        host = inet_ntop(AF_INET6, &address, shortest, sizeof(shortest));
        rest = text.substr(close + 1);
    } else {
        const size_t colon = std::min(text.find(':'), text.size());
        host = lower(text.substr(0, colon));
        rest = text.substr(colon);
        const auto in_name = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || one_of(c, "-._");
        };
        if (!std::all_of(host.begin(), host.end(), in_name)) {
            return false;
        }
        if (!host.empty() && host.back() == '.') { // the root of all names: the same name
            host.pop_back();
        }
        if (host.empty() || host.back() == '.') {
            return false;
        }
    }
    if (!rest.empty() && (rest[0] != ':' || rest.size() > 6 ||
                          !std::all_of(rest.begin() + 1, rest.end(), [](char c) { return c >= '0' && c <= '9'; }))) {
        return false;
    }
    out.host = std::move(host);
    out.port = rest.empty() ? "" : rest.substr(1);
    return true;
}

bool is_loopback(const std::string & host) {
    in_addr address;
    if (inet_pton(AF_INET, host.c_str(), &address) == 1) {
        return ntohl(address.s_addr) >> 24 == 127;
    }
    return host == "localhost" || host == "::1";
}

// false unless it is http(s)://authority and nothing after it; the scheme's own port is left out
bool parse_origin(const std::string & origin, authority & out, std::string & scheme) {
    const size_t end = origin.find("://");
    if (end == std::string::npos) {
        return false;
    }
    scheme = lower(origin.substr(0, end));
    if ((scheme != "http" && scheme != "https") || !parse(origin.substr(end + 3), out)) {
        return false;
    }
    if (out.port == (scheme == "http" ? "80" : "443")) {
        out.port.clear();
    }
    return true;
}

// one spelling for each origin, of whatever scheme
std::string spelled(const std::string & origin) {
    authority at;
    std::string scheme;
    if (!parse_origin(origin, at, scheme)) {
        return lower(origin);
    }
    const std::string host = at.host.find(':') == std::string::npos ? at.host : "[" + at.host + "]";
    return scheme + "://" + host + (at.port.empty() ? "" : ":" + at.port);
}

// what a log and an error message may hold of what a stranger sent
std::string shown(const std::string & text) {
    std::string out;
    for (const char c : text.substr(0, 100)) {
        out += c > ' ' && c < 127 ? c : '?';
    }
    return "'" + out + (text.size() > 100 ? "...'" : "'");
}

bool contains(const std::vector<std::string> & list, const std::string & item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

} // namespace

plm_web_guard::plm_web_guard(const std::string & origins, const std::vector<std::string> & bound) {
    authority at;
    std::string scheme;
    for (const std::string & item : items(origins)) {
        if (item == "*") {
            any = true;
        } else if (item == "localhost") {
            loopback_origin = true;
        } else {
            this->origins.push_back(spelled(item));
            if (parse_origin(item, at, scheme)) {
                hosts.push_back(at.host);
            }
        }
    }
    for (const std::string & name : bound) {
        // an address of IPv6 stands without brackets here
        if (parse(name.find(':') == std::string::npos ? name : "[" + name + "]", at)) {
            hosts.push_back(at.host);
        }
    }
}

std::string plm_web_guard::refusal(const std::vector<std::string> & host, const std::vector<std::string> & origin,
                                   bool http_1_0) const {
    if (any) {
        return "";
    }
    if (host.size() > 1 || (host.empty() && !http_1_0)) {
        return host.empty() ? "the request has no Host header" : "the request has several Host headers";
    }
    authority called;
    if (!host.empty() && (!parse(host[0], called) || (!is_loopback(called.host) && !contains(hosts, called.host)))) {
        return "this server is not called " + shown(host[0]) + " (see --cors-origins)";
    }
    if (origin.empty()) {
        return "";
    }
    if (origin.size() > 1) {
        return "the request has several Origin headers";
    }
    if (contains(origins, spelled(origin[0]))) {
        return "";
    }
    authority page;
    std::string scheme;
    if (parse_origin(origin[0], page, scheme)) {
        if (loopback_origin && is_loopback(page.host)) {
            return "";
        }
        // a page of this server's own
        const std::string standard = scheme == "http" ? "80" : "443";
        if (!host.empty() && page.host == called.host && page.port == (called.port == standard ? "" : called.port)) {
            return "";
        }
    }
    return "web pages of " + shown(origin[0]) + " may not use this server (see --cors-origins)";
}
