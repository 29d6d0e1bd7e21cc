// One point of plm-edge bench, where there is no Python: what plm_edge/bench/worker.py does, event for event.
//
//   plm-edge-bench what=prefill|decode|load model=FILE n_tokens=N …      one JSON event a line on stdout
//   plm-edge-bench what=capability threads=N mib=N                       memory bandwidth and arithmetic
//
// plm_edge/bench/native_worker.py writes the command line and reads the events.

#include "engine.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct sample {
    double              seconds = 0, start = 0, end = 0, ttft = -1;
    int                 tokens = 0;
    std::vector<double> steps;
};

static std::string listed(const std::vector<double> & values) {
    std::string out = "[";
    char        one[32];
    for (const double value : values) {
        snprintf(one, sizeof one, "%s%.9f", out.size() > 1 ? ", " : "", value);
        out += one;
    }
    return out + "]";
}

// in bytes; VmHWM where there is one: getrusage's figure starts at the parent's, inherited over exec
static long long peak_rss() {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("VmHWM:", 0) == 0) {
            return atoll(line.c_str() + 6) * 1024;
        }
    }
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
#if defined(__APPLE__)
    return used.ru_maxrss;
#else
    return used.ru_maxrss * 1024LL;
#endif
}

// takes a file out of the page cache; whether (nearly) nothing of it is left there
static bool drop(const std::string & path) {
#if defined(__APPLE__)
    (void) path;
    return false;
#else
    const int   file = open(path.c_str(), O_RDONLY);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0 || about.st_size == 0) {
        return false;
    }
    fsync(file); // only clean pages are dropped
    bool gone = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0;
    void * view = mmap(nullptr, about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (gone && view != MAP_FAILED) {
        const size_t               page = sysconf(_SC_PAGESIZE), pages = (about.st_size + page - 1) / page;
        std::vector<unsigned char> states(pages);
        gone = mincore(view, about.st_size, states.data()) == 0;
        size_t left = 0;
        for (const unsigned char state : states) {
            left += state & 1;
        }
        gone = gone && left <= pages / 100;
        munmap(view, about.st_size);
    } else {
        gone = false;
    }
    close(file);
    return gone;
#endif
}

class sampler {
  public:
    sampler(engine & with, const request & asked)
        : with_(with), kind_(asked.text("what")), n_tokens_(asked.whole("n_tokens")), depth_(asked.whole("depth")),
          n_seq_(asked.whole("n_seq")), n_vocab_(llama_vocab_n_tokens(with.vocab())), n_batch_(llama_n_batch(with.ctx)),
          memory_(llama_get_memory(with.ctx)), batch_(llama_batch_init(std::max(n_batch_, n_seq_), 0, 1)) {
        if (!asked.text("text").empty()) {
            tokenise(asked.text("text"));
        }
    }
    ~sampler() { llama_batch_free(batch_); }
    sampler(const sampler &) = delete;

    // every path once, uncounted; leaves `depth` tokens in the cache
    void warm_up() {
        llama_memory_clear(memory_, false);
        if (kind_ == "prefill") {
            prefill();
            return;
        }
        for (int start = 0; start < depth_; start += n_batch_) {
            const int n = std::min(n_batch_, depth_ - start);
            for (int seq = 0; seq < n_seq_; seq++) {
                batch_.n_tokens = 0;
                for (int i = 0; i < n; i++) {
                    add(start + i, seq, i == n - 1);
                }
                compute(batch_);
            }
        }
        decode(2);
    }

    sample take() {
        if (kind_ == "prefill") {
            return prefill();
        }
        llama_memory_seq_rm(memory_, -1, depth_, -1);
        return decode(n_tokens_);
    }

  private:
    sample prefill() {
        llama_memory_clear(memory_, false);
        std::vector<llama_token> tokens(n_tokens_);
        for (auto & token : tokens) {
            token = next();
        }
        llama_sampler * greedy = llama_sampler_init_greedy();
        sample          made;
        made.tokens = n_tokens_;
        made.start  = now();
        for (int at = 0; at < n_tokens_; at += n_batch_) {
            compute(llama_batch_get_one(tokens.data() + at, std::min(n_batch_, n_tokens_ - at)));
        }
        made.seconds = now() - made.start;
        llama_sampler_sample(greedy, with_.ctx, -1);
        made.end  = now();
        made.ttft = made.end - made.start;
        llama_sampler_free(greedy);
        return made;
    }

    sample decode(int n) {
        sample made;
        made.tokens = n * n_seq_;
        made.start  = now();
        for (int i = 0; i < n; i++) {
            batch_.n_tokens = 0;
            for (int seq = 0; seq < n_seq_; seq++) {
                add(depth_ + i, seq, true);
            }
            const double began = now();
            compute(batch_);
            made.steps.push_back(now() - began);
            made.seconds += made.steps.back();
        }
        made.end = now();
        return made;
    }

    void add(int position, int seq, bool output) {
        const int i          = batch_.n_tokens++;
        batch_.token[i]      = next();
        batch_.pos[i]        = position;
        batch_.n_seq_id[i]   = 1;
        batch_.seq_id[i][0]  = seq;
        batch_.logits[i]     = output;
    }

    void compute(llama_batch batch) {
        const int status = llama_decode(with_.ctx, batch);
        if (status != 0) {
            fail("the engine there could not compute the next tokens", "llama_decode returned " + std::to_string(status),
                 "lower the depth or the number of sequences", 5);
        }
        llama_synchronize(with_.ctx);
    }

    // uniform over the vocabulary with a fixed seed, as llama-bench draws them; or the text's, in order
    llama_token next() { return text_.empty() ? (llama_token) (random_() % n_vocab_) : text_[at_++ % text_.size()]; }

    void tokenise(const std::string & path) {
        std::ifstream     file(path, std::ios::binary);
        std::stringstream all;
        all << file.rdbuf();
        const std::string text = all.str();
        text_.resize(text.size() + 8);
        const int n = llama_tokenize(with_.vocab(), text.data(), text.size(), text_.data(), text_.size(), true, true);
        text_.resize(std::max(n, 0));
        if (text_.empty()) {
            fail("the text holds no tokens", path, "give another file with --text", 3);
        }
    }

    engine &                 with_;
    std::string              kind_;
    int                      n_tokens_, depth_, n_seq_, n_vocab_, n_batch_;
    llama_memory_t           memory_;
    llama_batch              batch_;
    std::mt19937             random_{ 1 };
    std::vector<llama_token> text_;
    size_t                   at_ = 0;
};

// half the 95 % confidence interval of the mean, as a share of it; -1 for fewer than two samples
static double interval(const std::vector<double> & rates, const std::vector<double> & t95) {
    const size_t n = rates.size();
    if (n < 2) {
        return -1;
    }
    double mean = 0, square = 0;
    for (const double rate : rates) {
        mean += rate / n;
    }
    for (const double rate : rates) {
        square += (rate - mean) * (rate - mean);
    }
    const double t = n - 2 < t95.size() ? t95[n - 2] : 1.96 + 2.5 / (n - 1);
    return t * std::sqrt(square / (n - 1)) / std::sqrt((double) n) / mean;
}

// A system call that nothing else makes: an emulator that counts instructions (count.c) notes its count here.
static void mark() {
    (void) getppid();
}

// until the mean is known well enough or time is up: plm_edge/bench/samples.py, repeat
static void repeat(const request & asked, const std::function<sample()> & take) {
    std::vector<double> t95, rates;
    std::stringstream   numbers(asked.text("t95"));
    for (std::string one; std::getline(numbers, one, ',');) {
        t95.push_back(atof(one.c_str()));
    }
    const double wanted = asked.number("interval"), budget = asked.number("budget_s"), most = asked.number("max_repeats");
    const double began = now();
    bool         reached = false;
    double       covered = 0; // seconds
    while (true) {
        mark();
        const sample one = take();
        mark();
        rates.push_back(1 / one.seconds);
        covered += one.seconds;
        const double known = interval(rates, t95);
        char         text[320];
        snprintf(text, sizeof text, "\"seconds\": %.9f, \"tokens\": %d, \"start\": %.9f, \"end\": %.9f, \"interval\": %s",
                 one.seconds, one.tokens, one.start, one.end, known < 0 ? "null" : std::to_string(known).c_str());
        std::string members = text;
        if (one.ttft >= 0) {
            members += ", \"ttft_s\": " + listed({ one.ttft }).substr(1);
            members.pop_back();
        }
        say("sample", members + ", \"steps\": " + listed(one.steps));
        if ((double) rates.size() < asked.number("min_repeats")) {
            continue;
        }
        const bool enough =
            rates.size() >= std::min(asked.number("enough"), most) && covered >= asked.number("least_s");
        if (enough && known >= 0 && known <= wanted) {
            reached = true;
            break;
        }
        if ((double) rates.size() >= most || now() - began >= budget) {
            break;
        }
    }
    std::string rows;
    for (const layer_rows & layer : read_rows()) {
        rows += (rows.empty() ? "" : ", ") + ("{\"layer\": " + std::to_string(layer.layer)) +
                ", \"rows\": " + std::to_string(layer.rows) + ", \"read\": " + std::to_string(layer.read) + "}";
    }
    say("done", std::string("\"reached\": ") + (reached ? "true" : "false") +
                    ", \"peak_rss_bytes\": " + std::to_string(peak_rss()) + ", \"rows\": [" + rows + "]");
}

static void loads(const request & asked) {
    const bool        cold = asked.whole("cold") != 0;
    const std::string path = asked.text("model");
    { engine once(asked); } // the libraries and their tables once: they are no part of a load
    if (cold && !drop(path)) {
        say("skipped", "\"why\": \"the file cannot be dropped from the page cache there\"");
        return;
    }
    repeat(asked, [&] {
        if (cold) {
            drop(path);
        }
        sample made;
        made.tokens = 1;
        made.start  = now();
        auto loaded = std::make_unique<engine>(asked);
        made.end    = now();
        made.seconds = made.end - made.start;
        return made;
    });
}

int main(int argc, char ** argv) {
    request asked;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        const size_t      at   = word.find('=');
        if (at != std::string::npos) {
            asked.values[word.substr(0, at)] = word.substr(at + 1);
        }
    }
    const std::string what = asked.text("what");
    if (what == "capability") {
        return capability(asked);
    }
    if (what == "load") {
        loads(asked);
        return 0;
    }
    if (what != "prefill" && what != "decode") {
        fprintf(stderr, "usage: plm-edge-bench what=prefill|decode|load|capability NAME=VALUE...\n");
        return 2;
    }
    engine  with(asked);
    sampler from(with, asked);
    char    description[256];
    llama_model_desc(with.model, description, sizeof description);
    say("loaded", "\"threads\": " + std::to_string(asked.whole("threads")) + ", \"description\": " + quoted(description));
    if (asked.whole("warm_up") || asked.whole("depth")) {
        from.warm_up();
    }
    say("warm", "");
    reset_rows();
    repeat(asked, [&] { return from.take(); });
    return 0;
}
