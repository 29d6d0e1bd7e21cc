#pragma once

// Files that are mapped in huge pages. Weights that are mapped need no copy, and no memory that the system must clear: they
// are there as soon as their file is in the page cache, which is their memory. In pages of 4 KiB decoding is slower, though,
// so that a file is mapped only where it comes in huge ones. Linux has those for files of some file systems (ext4 from 6.16
// on, XFS, btrfs, tmpfs if it is told so), if a file was read or written in large enough parts.

#include "llama.h"

#include <cstddef>
#include <functional>

struct llama_model_loader;

// Some bytes of a file, mapped. Nothing is read before `read` is called.
class plm_mapping {
  public:
    plm_mapping(int file, size_t at, size_t n);
    ~plm_mapping();
    plm_mapping(const plm_mapping &) = delete;
    plm_mapping & operator=(const plm_mapping &) = delete;

    // Brings `n` bytes from `from` on into memory. False where that fails, and where the system has no mapping that answers
    // a bad disk by an error and not by a signal: data() must not be touched then.
    bool read(size_t from, size_t n) const;

    // Asks for huge pages, before anything is read. False: there are none.
    bool ask_for_huge_pages() const;

    // How many bytes are mapped in huge pages.
    size_t in_huge_pages() const;

    const char * data() const { return begin + skipped; }

  private:
    char * begin = nullptr; // null: not mapped
    size_t skipped = 0;     // in the first page, before the bytes that are meant
    size_t size = 0;        // from `begin` on
};

// Takes mapped bytes that nobody needs any more out of this process, where that is possible. Their file keeps them.
void plm_forget_mapped(const void * from, size_t n);

enum class plm_pages { huge,
                       small,
                       unwanted };

// Reads a file of `size` bytes into the page cache, in huge pages if it is not there yet, and says in which it is. `small`
// is said early, when little was read. `progress` is as that of plm_in_pieces; `unwanted`: it ended the work.
plm_pages plm_read_in_huge_pages(int file, size_t size, const std::function<bool(size_t)> & progress);

// Decides for a loader that may map whether it does. False if `progress` ends the work.
bool plm_choose_mapping(llama_model_loader & loader, llama_progress_callback progress, void * user_data);
