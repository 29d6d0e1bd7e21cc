// Names of the one model that a server has loaded: a request that names another one is refused as OpenAI's API does
// it, and GET /v1/models/{id} describes it.

#pragma once

#include "server-context.h"
#include "server-http.h"

#include <set>
#include <string>

struct common_params;

class plm_model_names {
  public:
    // The model is known by its aliases (--alias, of which the first in the alphabet is what answers call it; and the
    // lines of PLM_EDGE_MODEL_ALIASES), its path, its file's name, and that name without .gguf.
    explicit plm_model_names(const common_params & params);

    // Lets every route that takes the name of a model refuse a foreign one: 404, model_not_found. A request without a
    // name, or with an empty one, means the model that is there.
    void guard(server_routes & routes) const;

    // GET /v1/models/:id. An id with a slash may come encoded, or as it is: /v1/models/:owner/:id.
    server_http_context::handler_t describe(const server_routes & routes) const;

  private:
    bool has(const std::string & name) const;
    server_http_res_ptr not_found(const std::string & name, bool anthropic) const;

    server_http_context::handler_t guarded(server_http_context::handler_t handler) const;

    std::set<std::string> names;
    std::string shown; // the name that answers carry
};
