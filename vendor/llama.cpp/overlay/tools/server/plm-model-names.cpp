#include "plm-model-names.h"

#include "common.h"
#include "server-common.h"

#include <cstdlib>
#include <filesystem>

plm_model_names::plm_model_names(const common_params & params) : names(params.model_alias) {
    const std::filesystem::path file = params.model.path;
    shown = names.empty() ? file.filename().string() : *names.begin();
    for (const std::string & name : { file.string(), file.filename().string(), file.stem().string() }) {
        names.insert(name);
    }
    const char * more = getenv("PLM_EDGE_MODEL_ALIASES");
    for (const std::string & name : string_split<std::string>(more != nullptr ? more : "", '\n')) {
        names.insert(name);
    }
}

bool plm_model_names::has(const std::string & name) const {
    return name.empty() || names.count(name) != 0;
}

server_http_res_ptr plm_model_names::not_found(const std::string & name, bool anthropic) const {
    const std::string cut = name.size() > 100 ? name.substr(0, 97) + "..." : name;
    json error = {
        { "message", "The model '" + cut + "' does not exist here; this server has '" + shown + "'" },
        { "type", anthropic ? "not_found_error" : "invalid_request_error" },
        { "param", "model" },
        { "code", "model_not_found" },
    };
    json body = { { "error", error } };
    if (anthropic) {
        body["type"] = "error";
    }
    auto res = std::make_unique<server_http_res>();
    res->status = 404;
    res->data = safe_json_to_str(body);
    return res;
}

server_http_context::handler_t plm_model_names::guarded(server_http_context::handler_t handler) const {
    return [names = *this, handler = std::move(handler)](const server_http_req & req) {
        if (req.body.find("\"model\"") != std::string::npos) {
            // what is no JSON the handler refuses in its own words
            const json body = json::parse_no_throw(req.body);
            if (!body.is_discarded() && body.is_object() && body.contains("model") && body.at("model").is_string()) {
                const std::string name = body.at("model");
                if (!names.has(name)) {
                    return names.not_found(name, req.path.find("/v1/messages") != std::string::npos);
                }
            }
        }
        return handler(req);
    };
}

void plm_model_names::guard(server_routes & routes) const {
    for (auto * route : {
             &routes.post_completions,
             &routes.post_completions_oai,
             &routes.post_chat_completions,
             &routes.post_chat_completions_tok,
             &routes.post_responses_oai,
             &routes.post_responses_tok_oai,
             &routes.post_transcriptions_oai,
             &routes.post_anthropic_messages,
             &routes.post_anthropic_count_tokens,
             &routes.post_infill,
             &routes.post_embeddings,
             &routes.post_embeddings_oai,
             &routes.post_rerank,
         }) {
        *route = guarded(std::move(*route));
    }
}

server_http_context::handler_t plm_model_names::describe(const server_routes & routes) const {
    return [names = *this, list = routes.get_models](const server_http_req & req) {
        const std::string owner = req.get_param("owner");
        const std::string id = (owner.empty() ? "" : owner + "/") + req.get_param("id");
        if (!names.has(id)) {
            return names.not_found(id, false);
        }
        auto res = list(req); // answers while the model sleeps, too
        if (res->status == 200) {
            res->data = safe_json_to_str(json::parse(res->data).at("data").at(0));
        }
        return res;
    };
}
