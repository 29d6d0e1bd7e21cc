// A device that stands for a GPU: its memory is not the CPU's, it counts what crosses, and it refuses what real ones do. The
// CPU backend computes for it, so that results are right wherever an operation runs, and only where it runs is tested.

#include "ggml-alloc.h"
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "llama-ext.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#pragma weak llama_get_memory_breakdown // programs that have the device preloaded may lack it

namespace {

enum lack : unsigned {
    SPARSE_T = 1,       // MUL_MAT_SPARSE_T
    K_QUANT_CASTS = 2,  // CPY from q4_K, q5_K, q6_K, as no GPU backend has
    EXPANDED = 4,       // attention whose keys have 192 values and whose values have 128, as CUDA with 16 KV heads
    ABSORBED = 8,       // attention whose values are part of the keys, as OpenCL
    FILE_IN_PLACE = 16, // uses a file's bytes where they lie, as Metal
    N_DEVICES = 32,
};

constexpr size_t MEMORY = size_t(4) << 30;

struct fake {
    unsigned lacks;
    ggml_backend_device device;
    ggml_backend_buffer_type buft;
    ggml_backend_reg reg;
    uint64_t up, down; // bytes
    int computed;      // graphs
    size_t taken;      // bytes of its memory, by others
};

std::array<fake, N_DEVICES> fakes;

fake & of(ggml_backend_dev_t dev) { return *(fake *) dev->context; }
fake & of(ggml_backend_buffer_t buffer) { return *(fake *) buffer->buft->context; }

ggml_backend_dev_t cpu() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

// buffers

void free_own(ggml_backend_buffer_t buffer) { free(buffer->context); }
void free_borrowed(ggml_backend_buffer_t) {}
void * base(ggml_backend_buffer_t buffer) { return buffer->context; }
void fill(ggml_backend_buffer_t, ggml_tensor * t, uint8_t value, size_t offset, size_t size) { memset((char *) t->data + offset, value, size); }
void clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }

void upload(ggml_backend_buffer_t buffer, ggml_tensor * t, const void * data, size_t offset, size_t size) {
    of(buffer).up += size;
    memcpy((char *) t->data + offset, data, size);
}

void download(ggml_backend_buffer_t buffer, const ggml_tensor * t, void * data, size_t offset, size_t size) {
    of(buffer).down += size;
    memcpy(data, (const char *) t->data + offset, size);
}

ggml_backend_buffer_t buffer_at(fake & f, void * at, size_t size, void (*release)(ggml_backend_buffer_t)) {
    const ggml_backend_buffer_i iface = { release, base, nullptr, fill, upload, download, nullptr, nullptr, nullptr, clear, nullptr };
    return ggml_backend_buffer_init(&f.buft, iface, at, size);
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t buft, size_t size) {
    return buffer_at(*(fake *) buft->context, aligned_alloc(64, (size + 64) / 64 * 64), size, free_own);
}

const char * buft_name(ggml_backend_buffer_type_t) { return "Fake"; }
size_t alignment(ggml_backend_buffer_type_t) { return 64; }

// the backend

const char * backend_name(ggml_backend_t) { return "Fake"; }
void free_backend(ggml_backend_t backend) {
    ggml_backend_free((ggml_backend_t) backend->context);
    delete backend;
}

bool supports(ggml_backend_dev_t dev, const ggml_tensor * op);

ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    of(backend->device).computed++;
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        if (!supports(backend->device, ggml_graph_node(graph, i))) {
            return GGML_STATUS_FAILED;
        }
    }
    return ggml_backend_graph_compute((ggml_backend_t) backend->context, graph);
}

ggml_backend_t init(ggml_backend_dev_t dev, const char *) {
    static ggml_guid guid = { 'p', 'l', 'm', '-', 'f', 'a', 'k', 'e' };
    ggml_backend_i iface = {};
    iface.get_name = backend_name;
    iface.free = free_backend;
    iface.graph_compute = compute;
    ggml_backend_t real = ggml_backend_dev_init(cpu(), nullptr);
    const auto set_threads = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu()), "ggml_backend_set_n_threads");
    set_threads(real, 1);
    return new ggml_backend{ &guid, iface, dev, real };
}

// the device

const char * name(ggml_backend_dev_t) { return "Fake0"; }
const char * description(ggml_backend_dev_t) { return "a device for tests"; }
void memory(ggml_backend_dev_t dev, size_t * available, size_t * total) {
    *available = MEMORY - of(dev).taken;
    *total = MEMORY;
}
enum ggml_backend_dev_type type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t dev) { return &of(dev).buft; }
bool reads(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) { return buft == &of(dev).buft; }

void properties(ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
    props->name = name(dev);
    props->description = description(dev);
    props->type = type(dev);
    memory(dev, &props->memory_free, &props->memory_total);
    props->caps = {};
    props->caps.buffer_from_host_ptr = props->caps.mmap_support = of(dev).lacks & FILE_IN_PLACE;
}

ggml_backend_buffer_t from_host(ggml_backend_dev_t dev, void * at, size_t size, size_t) { return buffer_at(of(dev), at, size, free_borrowed); }

bool supports(ggml_backend_dev_t dev, const ggml_tensor * op) {
    const unsigned lacks = of(dev).lacks;
    const ggml_tensor * first = op->src[0];
    switch (op->op) {
        case GGML_OP_MUL_MAT_SPARSE_T:
            if (lacks & SPARSE_T) {
                return false;
            }
            break;
        case GGML_OP_CPY:
        case GGML_OP_DUP:
        case GGML_OP_CONT:
            if ((lacks & K_QUANT_CASTS) && (first->type == GGML_TYPE_Q4_K || first->type == GGML_TYPE_Q5_K || first->type == GGML_TYPE_Q6_K)) {
                return false;
            }
            break;
        case GGML_OP_FLASH_ATTN_EXT:
            if (lacks & (op->src[1]->ne[2] == 1 ? ABSORBED : EXPANDED)) {
                return false;
            }
            break;
        default:
            break;
    }
    return ggml_backend_dev_supports_op(cpu(), op);
}

// as CUDA: large batches go to the device though their weights are not there
bool wants(ggml_backend_dev_t, const ggml_tensor * op) {
    return (op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_SPARSE_T) && op->ne[1] >= 32;
}

const char * reg_name(ggml_backend_reg_t) { return "Fake"; }
size_t device_count(ggml_backend_reg_t) { return 1; }
ggml_backend_dev_t first_device(ggml_backend_reg_t reg, size_t) { return &((fake *) reg->context)->device; }

} // namespace

extern "C" ggml_backend_dev_t fake_gpu(unsigned lacks) {
    fake & f = fakes.at(lacks);
    f.lacks = lacks;
    f.reg = { GGML_BACKEND_API_VERSION, { reg_name, device_count, first_device, nullptr }, &f };
    f.buft = { { buft_name, allocate, alignment, nullptr, nullptr, nullptr }, &f.device, &f };
    ggml_backend_device_i iface = {};
    iface.get_name = name;
    iface.get_description = description;
    iface.get_memory = memory;
    iface.get_type = type;
    iface.get_props = properties;
    iface.init_backend = init;
    iface.get_buffer_type = buffer_type;
    iface.buffer_from_host_ptr = from_host;
    iface.supports_op = supports;
    iface.supports_buft = reads;
    iface.offload_op = wants;
    f.device = { iface, &f.reg, &f };
    return &f.device;
}

// bytes of a context's model on the device, as llama.cpp counts them to see what fits
extern "C" uint64_t fake_gpu_model_bytes(ggml_backend_dev_t dev, const llama_context * ctx) {
    const llama_memory_breakdown found = llama_get_memory_breakdown(ctx);
    const auto here = found.find(&of(dev).buft);
    return here == found.end() ? 0 : here->second.model;
}

// what the device says from now on that it has free, in bytes
extern "C" void fake_gpu_available(ggml_backend_dev_t dev, size_t bytes) { of(dev).taken = MEMORY - bytes; }

// A program that is started with this library preloaded has the device: FAKE_GPU says what it lacks, FAKE_GPU_FREE how many
// bytes it has free.
__attribute__((constructor)) static void preloaded() {
    if (const char * lacks = getenv("FAKE_GPU")) {
        ggml_backend_dev_t dev = fake_gpu(atoi(lacks));
        if (const char * bytes = getenv("FAKE_GPU_FREE")) {
            fake_gpu_available(dev, strtoull(bytes, nullptr, 10));
        }
        ggml_backend_register(dev->reg);
    }
}

// bytes that went to the device and came from it, and graphs that it computed, since this was last asked
extern "C" void fake_gpu_crossed(ggml_backend_dev_t dev, uint64_t * up, uint64_t * down, int * graphs) {
    fake & f = of(dev);
    *up = f.up;
    *down = f.down;
    *graphs = f.computed;
    f.up = f.down = 0;
    f.computed = 0;
}
