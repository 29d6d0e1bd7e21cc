/* A plugin of qemu's that counts the instructions a program executes, and appends the count to a file whenever
   the program asks for its parent's process number: plm-edge-bench does so before and after each sample.
   With code=FILE it also writes what was executed from each first mark to the second: the words of all instructions in
   their order, of CPUs whose instructions have four bytes. That is for programs of one thread.

   Compiled on the machine that emulates (counting.py). The declarations are those of qemu's plugin
   interface, which Debian's packages have no header for; VERSION is the interface's version. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn * qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
#if VERSION >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
const void * qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif

__attribute__((visibility("default"))) int qemu_plugin_version = VERSION;

static uint64_t count;
static long marked; /* the system call's number on the emulated machine */
static char path[4096];
static FILE * code; /* null: not written */
static int between; /* a first mark and its second */

struct words {
    size_t n;
    uint32_t word[];
};

static void executed(unsigned cpu, void * instructions) {
    (void) cpu;
    __atomic_fetch_add(&count, (uintptr_t) instructions, __ATOMIC_RELAXED);
}

static void write_code(unsigned cpu, void * block) {
    const struct words * const words = block;
    (void) cpu;
    if (between) {
        fwrite(words->word, sizeof(words->word[0]), words->n, code);
    }
}

/* they live as long as the program */
static struct words * words_of(const struct qemu_plugin_tb * block) {
    const size_t n = qemu_plugin_tb_n_insns(block);
    struct words * const words = malloc(sizeof(*words) + n * sizeof(words->word[0]));
    if (words) {
        words->n = n;
        for (size_t i = 0; i < n; i++) {
            const struct qemu_plugin_insn * const instruction = qemu_plugin_tb_get_insn(block, i);
#if VERSION >= 3
            qemu_plugin_insn_data(instruction, &words->word[i], sizeof(words->word[i]));
#else
            memcpy(&words->word[i], qemu_plugin_insn_data(instruction), sizeof(words->word[i]));
#endif
        }
    }
    return words;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb * block) {
    (void) id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *) (uintptr_t) qemu_plugin_tb_n_insns(block));
    struct words * const words = code ? words_of(block) : NULL;
    if (words) {
        qemu_plugin_register_vcpu_tb_exec_cb(block, write_code, QEMU_PLUGIN_CB_NO_REGS, words);
    }
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void) id, (void) cpu, (void) a, (void) b, (void) c, (void) d, (void) e, (void) f, (void) g, (void) h;
    if (number != marked) {
        return;
    }
    between = !between;
    if (code) {
        fflush(code);
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
        } else if (strncmp(argv[i], "code=", 5) == 0) {
            code = fopen(argv[i] + 5, "wb");
            if (!code) {
                fprintf(stderr, "plugin: %s cannot be written\n", argv[i] + 5);
                return 1;
            }
        } else {
            sscanf(argv[i], "call=%ld", &marked);
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
