// Keeps web pages away from a server that runs on its owner's machine.
//
// A browser sends requests to 127.0.0.1 for any page that asks. Two headers tell such a request from one of the
// owner's programs: Origin names the page that asks, and Host names the server that the browser believes to talk
// to. A page whose own name was made to resolve to 127.0.0.1 (DNS rebinding) counts as the same origin and may read
// the answers, but its name is still in Host. Ports are not compared with the server's own: behind a forwarded port
// the browser sees another one.

#pragma once

#include <string>
#include <vector>

class plm_web_guard {
  public:
    // origins: comma-separated, each an origin as browsers write it (scheme://host[:port], or null), "localhost"
    //          (loopback names and addresses at any port, by http or https), or "*" (all origins, and any Host)
    // bound:   what the server listens on
    //
    // The server may be called by loopback names and addresses, by those in `bound`, and by the hosts of `origins`:
    // pages of theirs may use it anyway.
    plm_web_guard(const std::string & origins, const std::vector<std::string> & bound);

    // Says why a request is refused; empty when it is to be answered. Takes the values of all its Host and all its
    // Origin headers. Only a request by HTTP/1.0 may have no Host; one without Origin comes from no page, or from a
    // page that cannot read the answer.
    std::string refusal(const std::vector<std::string> & host, const std::vector<std::string> & origin,
                        bool http_1_0 = false) const;

  private:
    bool any = false;
    bool loopback_origin = false;

    std::vector<std::string> origins;
    std::vector<std::string> hosts;
};
