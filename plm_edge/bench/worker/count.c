/* A plugin of qemu's that counts the instructions a program executes, and appends the count to a file whenever
   the program asks for its parent's process number: plm-edge-bench does so before and after each sample.

   Compiled on the machine that emulates (counting.py). The declarations are those of qemu's plugin
   interface, which Debian's packages have no header for; VERSION is the interface's version. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
enum { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = VERSION;

static uint64_t count;
static long marked; /* the system call's number on the emulated machine */
static char path[4096];

static void executed(unsigned cpu, void * instructions) {
    (void) cpu;
    __atomic_fetch_add(&count, (uintptr_t) instructions, __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb * block) {
    (void) id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *) (uintptr_t) qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void) id, (void) cpu, (void) a, (void) b, (void) c, (void) d, (void) e, (void) f, (void) g, (void) h;
    if (number != marked) {
        return;
    }
    FILE * file = fopen(path, "a");
    if (file) {
        fprintf(file, "%llu\n", (unsigned long long) __atomic_load_n(&count, __ATOMIC_RELAXED));
        fclose(file);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t * info,
                                                               int argc, char ** argv) {
    (void) info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            snprintf(path, sizeof path, "%s", argv[i] + 4);
        } else {
            sscanf(argv[i], "call=%ld", &marked);
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
