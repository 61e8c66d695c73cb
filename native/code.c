/* Code memory: images, copies, patches, slots, and the table of ranges that handlers search.
 *
 * Every struct tl_code has one executable mapping and, once it has pages of its own, a memfd seen through a writable
 * alias; no page is ever writable and executable at one address:
 *
 *   rx: [code: capacity_bytes | slots]   pages of the image's memfd or of its own; unpublished pages are PROT_NONE
 *   rw: the same layout in its own memfd
 *
 * An image owns all its pages. A copy's code pages are the image's until patched: then the page is duplicated into
 * the copy's memfd, patched through the alias, and swapped in by one mmap(MAP_FIXED), which a running thread sees as
 * either the old page or the new one. Slots are always the copy's own.
 *
 * The alias is not inherited by a fork (MADV_DONTFORK), or a child's patch would change its parent's code. The child
 * gives each copy with own pages a memfd of its own at once, because the parent may patch at any time; images wait
 * until the child publishes, since published bytes of an image never change.
 */
#define _GNU_SOURCE
#include "code.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "breakpoints.h"
#include "reserve.h"
#include "threads.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 8u
#endif

struct slot {
    struct tl_slot_place places[TL_SLOT_PLACES];
    size_t count;
};

struct tl_code {
    enum tl_code_kind kind;
    int fd;               /* -1: no pages of its own yet */
    dev_t device;         /* these two of the memfd, to notice a descriptor that somebody closed */
    ino_t inode;
    uint8_t *rx, *rw;     /* rw is NULL while fd is -1, and in a child that has not yet made its own */
    size_t capacity_bytes, slots_bytes, used, slots_used_bytes;
    uint8_t *own;         /* copies: one byte a code page, 1 when the page is the copy's */
    size_t own_pages;
    int stale;            /* images in a forked child: the memfd is still the parent's */
    int broken;
    uint8_t *snapshot;    /* while a fork is under way: own pages and slots as they were before it */
    struct tl_code *image, *home;
    struct slot *slots;
    struct tl_breakpoints breakpoints;
    struct tl_code *next; /* all codes */
    size_t copies;
    int dropped; /* nobody holds it but its copies */
    /* Images and private copies: address space behind their own, where their stepping copy goes; see code_new. */
    uint8_t *spare;
    size_t spare_bytes;
    _Atomic int spare_taken;
    int in_spare; /* a stepping copy in its home's spare space */
};

static pthread_mutex_t code_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_code *codes;

/* Requires the code lock. Tells handlers of every code on the list. */
static int publish_table(void) {
    size_t count = 0;
    for (struct tl_code *c = codes; c; c = c->next) count++;
    struct tl_range *rows = malloc((count + 1) * sizeof *rows);
    if (!rows) return -ENOMEM;
    count = 0;
    for (struct tl_code *c = codes; c; c = c->next) {
        uint64_t start = (uint64_t)c->rx, slots = start + c->capacity_bytes;
        rows[count++] = (struct tl_range){start, slots + c->slots_bytes, c, slots, c->kind};
    }
    int error = tl_ranges_replace(rows, count);
    free(rows);
    return error;
}

/* ---- mappings ---- */

static size_t pages(size_t bytes) { return (bytes + tl_page_bytes - 1) / tl_page_bytes; }
static size_t round_pages(size_t bytes) { return pages(bytes) * tl_page_bytes; }
static size_t total_bytes(const struct tl_code *c) { return c->capacity_bytes + c->slots_bytes; }
/* With a page that nothing is ever mapped in: code that runs off its end must not run on in whatever lies behind. */
static size_t reserved_bytes(const struct tl_code *c) { return total_bytes(c) + tl_page_bytes; }

static int memfd(void) {
    int fd = memfd_create("trapline", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create("trapline", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Gives `c` a memfd and an alias. */
static int open_own(struct tl_code *c) {
    struct stat status;
    int fd = memfd();
    if (fd < 0) return fd;
    if (ftruncate(fd, (off_t)total_bytes(c)) || fstat(fd, &status)) goto failed;
    c->rw = mmap(NULL, total_bytes(c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (c->rw == MAP_FAILED) {
        c->rw = NULL;
        goto failed;
    }
    madvise(c->rw, total_bytes(c), MADV_DONTFORK);
    c->fd = fd;
    c->device = status.st_dev;
    c->inode = status.st_ino;
    return 0;
failed:;
    int error = -errno;
    close(fd);
    return error;
}

static int descriptor_ok(const struct tl_code *c) {
    struct stat status;
    return fstat(c->fd, &status) == 0 && status.st_dev == c->device && status.st_ino == c->inode;
}

/* Closes the descriptor that `c` had before open_own, unless somebody else did. */
static void close_before(const struct tl_code *before) {
    if (descriptor_ok(before)) close(before->fd);
}

/* Maps [start, stop) of the layout executable from the memfd of `from`. */
static int map_rx(struct tl_code *c, const struct tl_code *from, size_t start, size_t stop) {
    if (start == stop) return 0;
    if (!descriptor_ok(from)) return TL_ERR_CLOSED;
    void *m = mmap(c->rx + start, stop - start, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, from->fd, (off_t)start);
    return m == MAP_FAILED ? -errno : 0;
}

static void flush(uint8_t *start, size_t count) { __builtin___clear_cache((char *)start, (char *)start + count); }

/* The slots of a stepping copy hold instructions of its home whose operands are relative to the pc, so no place of the
 * one may be 2 GiB from any place of the other. Other reservations (linear memories, stacks) can take all the space
 * around a home, so each home reserves room for one stepping copy of TL_SPARE_SLOTS slots from the start. */
static void reserve_code(struct tl_code *c, struct tl_code *home) {
    size_t bytes = reserved_bytes(c);
    if (!home) {
        c->spare_bytes = bytes + round_pages(TL_SPARE_SLOTS * TL_SLOT_BYTES);
        c->rx = tl_reserve(NULL, bytes + c->spare_bytes);
        if (c->rx != MAP_FAILED) {
            c->spare = c->rx + bytes;
            return;
        }
        c->spare_bytes = 0;
        c->rx = tl_reserve(NULL, bytes);
    } else if (bytes <= home->spare_bytes && !atomic_exchange(&home->spare_taken, 1)) {
        c->rx = home->spare;
        c->in_spare = 1;
    } else {
        c->rx = tl_reserve_near(home->rx, reserved_bytes(home), bytes);
    }
}

/* Gives address space back: to the home whose spare space it was, or to the system. */
static void release_code(struct tl_code *c) {
    if (!c->in_spare) {
        munmap(c->rx, reserved_bytes(c) + c->spare_bytes);
        return;
    }
    mmap(c->rx, reserved_bytes(c), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    atomic_store(&c->home->spare_taken, 0);
}

static struct tl_code *code_new(enum tl_code_kind kind, size_t capacity_bytes, size_t slots_bytes,
                                struct tl_code *home, int *error) {
    struct tl_code *c = calloc(1, sizeof *c);
    *error = -ENOMEM;
    if (!c) return NULL;
    c->kind = kind;
    c->fd = -1;
    c->capacity_bytes = capacity_bytes;
    c->slots_bytes = slots_bytes;
    reserve_code(c, home);
    if (c->rx == MAP_FAILED) {
        *error = -errno;
        free(c);
        return NULL;
    }
    *error = 0;
    return c;
}

static void code_delete(struct tl_code *c) {
    if (c->rx) release_code(c);
    if (c->rw) munmap(c->rw, total_bytes(c));
    if (c->fd >= 0) close_before(c);
    free(c->own);
    free(c->slots);
    free(c->breakpoints.rows);
    free(c);
}

/* Requires the code lock. Puts a new code on the list and into the table, or deletes it. */
static struct tl_code *enlist(struct tl_code *c, int *error) {
    c->next = codes;
    codes = c;
    if (!*error) *error = publish_table();
    if (!*error) return c;
    codes = c->next;
    code_delete(c);
    return NULL;
}

struct tl_code *tl_code_image(size_t capacity_bytes, int *error) {
    struct tl_code *c = code_new(TL_CODE_IMAGE, round_pages(capacity_bytes), 0, NULL, error);
    if (!c) return NULL;
    *error = open_own(c);
    pthread_mutex_lock(&code_lock);
    c = enlist(c, error);
    pthread_mutex_unlock(&code_lock);
    return c;
}

static int refresh_image(struct tl_code *image);

static int copy_pages(struct tl_code *c, struct tl_code *image) {
    c->own = calloc(pages(c->capacity_bytes) + 1, 1);
    c->slots = calloc(c->slots_bytes / TL_SLOT_BYTES + 1, sizeof *c->slots);
    if (!c->own || !c->slots) return -ENOMEM;
    size_t used = round_pages(image->used);
    if (c->kind != TL_CODE_STEPPING) return map_rx(c, image, 0, used);
    int error = open_own(c);
    if (error) return error;
    memcpy(c->rw, image->rw ? image->rw : image->rx, image->used);
    memset(c->own, 1, pages(image->used));
    c->own_pages = pages(image->used);
    error = map_rx(c, c, 0, used);
    return error ? error : map_rx(c, c, c->capacity_bytes, total_bytes(c));
}

struct tl_code *tl_code_copy(struct tl_code *image, size_t slots, struct tl_code *home, int *error) {
    if (image->kind != TL_CODE_IMAGE) {
        *error = TL_ERR_KIND;
        return NULL;
    }
    struct tl_code *c = code_new(home ? TL_CODE_STEPPING : TL_CODE_PRIVATE, image->capacity_bytes,
                                 round_pages(slots * TL_SLOT_BYTES), home, error);
    if (!c) return NULL;
    pthread_mutex_lock(&code_lock);
    c->image = image;
    c->home = home;
    c->used = image->used;
    *error = copy_pages(c, image);
    c = enlist(c, error);
    if (c) {
        image->copies++;
        if (home && home != image) home->copies++;
    }
    pthread_mutex_unlock(&code_lock);
    return c;
}

/* Requires the code lock. Unmaps what nobody holds and no copy is left of, and then what that was a copy of. */
static int sweep(struct tl_code *c) {
    if (!c || !c->dropped || c->copies) return 0;
    struct tl_code *image = c->image, *home = c->home == image ? NULL : c->home;
    struct tl_code **at = &codes;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    int error = publish_table();
    if (error) {
        c->next = codes;
        codes = c;
        return error;
    }
    code_delete(c);
    if (image) image->copies--;
    if (home) home->copies--;
    return sweep(home ? home : image); /* a home is a copy of the image itself, and sweeps it in its turn */
}

int tl_code_free(struct tl_code *c) {
    pthread_mutex_lock(&code_lock);
    c->dropped = 1;
    int error = sweep(c);
    pthread_mutex_unlock(&code_lock);
    return error;
}

uint64_t tl_code_base(const struct tl_code *c) { return (uint64_t)c->rx; }
size_t tl_code_used(const struct tl_code *c) { return c->used; }
size_t tl_code_capacity(const struct tl_code *c) { return c->capacity_bytes; }
size_t tl_code_slots(const struct tl_code *c) { return c->slots_bytes / TL_SLOT_BYTES; }
size_t tl_code_own_pages(const struct tl_code *c) { return c->own_pages; }

uint64_t tl_code_slot_address(const struct tl_code *c, size_t slot) {
    return (uint64_t)c->rx + c->capacity_bytes + slot * TL_SLOT_BYTES;
}

/* ---- publishing ---- */

/* Requires the code lock. Makes the page of a copy that a new image page falls on visible, or brings its own page
 * up to date. */
static int extend_copy(struct tl_code *c, const struct tl_code *image, size_t start, size_t stop, size_t mapped) {
    for (size_t page = start / tl_page_bytes; page < pages(mapped) && page * tl_page_bytes < stop; page++) {
        if (!c->own[page]) continue;
        size_t from = page * tl_page_bytes > start ? page * tl_page_bytes : start;
        size_t to = (page + 1) * tl_page_bytes < stop ? (page + 1) * tl_page_bytes : stop;
        memcpy(c->rw + from, image->rw + from, to - from);
    }
    int error = 0;
    size_t wanted = round_pages(stop);
    if (c->kind == TL_CODE_STEPPING) {
        memcpy(c->rw + start, image->rw + start, stop - start);
        for (size_t page = pages(mapped); page < pages(stop); page++) {
            c->own[page] = 1;
            c->own_pages++;
        }
        if (wanted > mapped) error = map_rx(c, c, mapped, wanted);
    } else if (wanted > mapped) {
        error = map_rx(c, image, mapped, wanted);
    }
    if (!error) {
        flush(c->rx + start, stop - start);
        c->used = stop;
    }
    return error;
}

static int publish(struct tl_code *image, const uint8_t *bytes, size_t count, size_t align_bytes, size_t *offset) {
    size_t start = (image->used + align_bytes - 1) & ~(align_bytes - 1), stop = start + count;
    if (start > image->capacity_bytes || count > image->capacity_bytes - start) return TL_ERR_CAPACITY;
    int error = image->stale ? refresh_image(image) : 0;
    if (error) return error;
    size_t mapped = round_pages(image->used);
    memcpy(image->rw + start, bytes, count);
    if (round_pages(stop) > mapped) error = map_rx(image, image, mapped, round_pages(stop));
    for (struct tl_code *c = codes; c && !error; c = c->next)
        if (c->image == image) error = c->broken ? 0 : extend_copy(c, image, image->used, stop, mapped);
    if (error) return error;
    flush(image->rx + start, count);
    image->used = stop;
    *offset = start;
    return 0;
}

int tl_code_publish(struct tl_code *image, const uint8_t *bytes, size_t count, size_t align_bytes, size_t *offset) {
    if (image->kind != TL_CODE_IMAGE) return TL_ERR_KIND;
    if (!align_bytes || (align_bytes & (align_bytes - 1))) return -EINVAL;
    pthread_mutex_lock(&code_lock);
    int error = publish(image, bytes, count, align_bytes, offset);
    pthread_mutex_unlock(&code_lock);
    return error;
}

/* ---- patching ---- */

/* Requires the code lock. Makes every page of [start, stop) the copy's own; a swapped page shows the old bytes, so
 * the caller patches through the alias before the swap where it can. */
static int own_range(struct tl_code *c, size_t start, size_t stop) {
    if (c->fd < 0) {
        int error = open_own(c);
        if (!error) error = map_rx(c, c, c->capacity_bytes, total_bytes(c));
        if (error) return error;
    }
    if (!c->rw) return TL_ERR_BROKEN;
    for (size_t page = start / tl_page_bytes; page * tl_page_bytes < stop; page++) {
        size_t at = page * tl_page_bytes;
        if (at >= c->capacity_bytes || c->own[page]) continue;
        if (!descriptor_ok(c)) return TL_ERR_CLOSED; /* before a page that is already swapped in is written */
        memcpy(c->rw + at, c->rx + at, tl_page_bytes);
    }
    return 0;
}

/* Requires the code lock. Swaps in the pages that own_range prepared. */
static int swap_range(struct tl_code *c, size_t start, size_t stop) {
    for (size_t page = start / tl_page_bytes; page * tl_page_bytes < stop; page++) {
        size_t at = page * tl_page_bytes;
        if (at >= c->capacity_bytes || c->own[page]) continue;
        int error = map_rx(c, c, at, at + tl_page_bytes);
        if (error) return error;
        c->own[page] = 1;
        c->own_pages++;
    }
    return 0;
}

static int patch_bounds(const struct tl_code *c, size_t offset, size_t count) {
    if (c->kind == TL_CODE_IMAGE) return TL_ERR_KIND;
    if (c->broken) return TL_ERR_BROKEN;
    int in_code = offset <= c->used && count <= c->used - offset;
    return in_code ? 0 : TL_ERR_RANGE;
}

/* Requires the code lock. One store where the patch is one byte or one aligned word: another thread executes either
 * the old instruction or the new one. */
static void store(uint8_t *to, const uint8_t *bytes, size_t count) {
    if (count == 1) {
        atomic_store((_Atomic uint8_t *)to, *bytes);
    } else if (count == 4 && (uintptr_t)to % 4 == 0) {
        uint32_t word;
        memcpy(&word, bytes, 4);
        atomic_store((_Atomic uint32_t *)(void *)to, word);
    } else {
        memcpy(to, bytes, count);
    }
}

static int patch(struct tl_code *c, size_t offset, const uint8_t *bytes, size_t count) {
    int error = own_range(c, offset, offset + count);
    if (error) return error;
    store(c->rw + offset, bytes, count);
    error = swap_range(c, offset, offset + count);
    if (!error) flush(c->rx + offset, count);
    return error;
}

int tl_code_patch(struct tl_code *c, size_t offset, const uint8_t *bytes, size_t count) {
    pthread_mutex_lock(&code_lock);
    int error = patch_bounds(c, offset, count);
    if (!error) error = patch(c, offset, bytes, count);
    pthread_mutex_unlock(&code_lock);
    return error;
}

int tl_code_patch_each(struct tl_code *c, const uint32_t *offsets, size_t n, const uint8_t *bytes, size_t count) {
    int error = 0;
    pthread_mutex_lock(&code_lock);
    for (size_t i = 0; i < n && !error; i++) {
        error = patch_bounds(c, offsets[i], count);
        if (!error) error = patch(c, offsets[i], bytes, count);
    }
    pthread_mutex_unlock(&code_lock);
    return error;
}

int tl_code_read(const struct tl_code *c, size_t offset, uint8_t *bytes, size_t count) {
    pthread_mutex_lock(&code_lock);
    int error = offset <= c->used && count <= c->used - offset ? 0 : TL_ERR_RANGE;
    if (!error) memcpy(bytes, c->rx + offset, count);
    pthread_mutex_unlock(&code_lock);
    return error;
}

int tl_code_slot_write(struct tl_code *c, size_t slot, const uint8_t *bytes, size_t count,
                       const struct tl_slot_place *places, size_t n) {
    if (c->kind == TL_CODE_IMAGE) return TL_ERR_KIND;
    if (slot >= tl_code_slots(c) || count > TL_SLOT_BYTES || !n || n > TL_SLOT_PLACES) return TL_ERR_RANGE;
    size_t offset = c->capacity_bytes + slot * TL_SLOT_BYTES;
    pthread_mutex_lock(&code_lock);
    int error = c->broken ? TL_ERR_BROKEN : own_range(c, offset, offset + count);
    if (!error) {
        memcpy(c->slots[slot].places, places, n * sizeof *places);
        c->slots[slot].count = n;
        if (c->slots_used_bytes < (slot + 1) * TL_SLOT_BYTES) c->slots_used_bytes = (slot + 1) * TL_SLOT_BYTES;
        memcpy(c->rw + offset, bytes, count);
        flush(c->rx + offset, count);
    }
    pthread_mutex_unlock(&code_lock);
    return error;
}

/* ---- breakpoints ---- */

int tl_code_breakpoint(struct tl_code *c, size_t offset, long slot) {
    pthread_mutex_lock(&code_lock);
    int error = tl_breakpoints_set(&c->breakpoints, offset, slot);
    pthread_mutex_unlock(&code_lock);
    return error;
}

/* Requires the code lock. */
static const struct tl_breakpoint *breakpoint_at(const struct tl_range *row, uint64_t pc) {
    return pc < row->slots ? tl_breakpoints_find(&row->code->breakpoints, pc - row->start) : NULL;
}

uint64_t tl_code_breakpoint_slot(uint64_t pc) {
    struct tl_range row;
    pthread_mutex_lock(&code_lock);
    const struct tl_breakpoint *found = tl_range_find(pc, &row) ? breakpoint_at(&row, pc) : NULL;
    uint64_t slot = found && found->on ? tl_code_slot_address(row.code, found->slot) : 0;
    pthread_mutex_unlock(&code_lock);
    return slot;
}

enum tl_place tl_code_place(uint64_t pc, struct tl_slot_place *meaning) {
    struct tl_range row;
    enum tl_place place = TL_PLACE_OUTSIDE;
    *meaning = (struct tl_slot_place){.pc = pc, .pc_register = -1};
    if (!tl_range_find(pc, &row)) return TL_PLACE_OUTSIDE;
    if (row.kind == TL_CODE_IMAGE) return TL_PLACE_CODE; /* never patched: nothing to look up */
    pthread_mutex_lock(&code_lock);
    if (tl_range_find(pc, &row)) {
        if (pc >= row.slots) {
            const struct slot *s = &row.code->slots[(pc - row.slots) / TL_SLOT_BYTES];
            for (size_t i = 0; i < s->count && s->places[i].start <= (pc - row.slots) % TL_SLOT_BYTES; i++)
                *meaning = s->places[i];
            place = TL_PLACE_SLOT;
        } else if (row.code->kind == TL_CODE_STEPPING) {
            meaning->pc = pc - row.start + (uint64_t)row.code->home->rx;
            place = TL_PLACE_STEP;
        } else {
            const struct tl_breakpoint *found = breakpoint_at(&row, pc);
            place = !found ? TL_PLACE_CODE : found->on ? TL_PLACE_BREAKPOINT : TL_PLACE_GONE;
        }
    }
    pthread_mutex_unlock(&code_lock);
    return place;
}

/* ---- fork ---- */

/* The parent may patch as soon as fork returns, before the child has run: what the child shall see of a copy is set
 * aside before the fork, in memory that is private to each of the two. */
static void before_fork(void) {
    pthread_mutex_lock(&code_lock);
    for (struct tl_code *c = codes; c; c = c->next) {
        if (c->kind == TL_CODE_IMAGE || c->fd < 0 || !c->rw) continue;
        c->snapshot = malloc(c->own_pages * tl_page_bytes + c->slots_used_bytes);
        if (!c->snapshot) continue; /* the child finds none and says so when the copy is used */
        uint8_t *to = c->snapshot;
        for (size_t page = 0; page < pages(c->used); page++) {
            if (!c->own[page]) continue;
            memcpy(to, c->rw + page * tl_page_bytes, tl_page_bytes);
            to += tl_page_bytes;
        }
        memcpy(to, c->rw + c->capacity_bytes, c->slots_used_bytes);
    }
}

static void drop_snapshots(void) {
    for (struct tl_code *c = codes; c; c = c->next) {
        free(c->snapshot);
        c->snapshot = NULL;
    }
}

static void in_parent(void) {
    drop_snapshots();
    pthread_mutex_unlock(&code_lock);
}

/* In the child, the code lock held: a memfd of the child's for a copy's own pages and slots. */
static int separate_copy(struct tl_code *c) {
    int inherited = c->fd;
    c->rw = NULL;
    c->fd = -1;
    if (!c->snapshot) return -ENOMEM;
    int error = open_own(c);
    if (error) return error;
    const uint8_t *from = c->snapshot;
    for (size_t page = 0; page < pages(c->used) && !error; page++) {
        if (!c->own[page]) continue;
        size_t at = page * tl_page_bytes;
        memcpy(c->rw + at, from, tl_page_bytes);
        from += tl_page_bytes;
        error = map_rx(c, c, at, at + tl_page_bytes);
    }
    memcpy(c->rw + c->capacity_bytes, from, c->slots_used_bytes);
    if (!error) error = map_rx(c, c, c->capacity_bytes, total_bytes(c));
    close(inherited);
    return error;
}

static void in_child(void) {
    for (struct tl_code *c = codes; c; c = c->next) {
        if (c->kind == TL_CODE_IMAGE) {
            c->rw = NULL;
            c->stale = 1;
        } else if (c->fd >= 0) {
            c->broken = c->broken || separate_copy(c) != 0;
        }
    }
    drop_snapshots();
    pthread_mutex_unlock(&code_lock);
}

/* Requires the code lock. The first publication in a forked child: the image and every page of a copy that is the
 * image's move to a memfd of the child's. */
static int refresh_image(struct tl_code *image) {
    const struct tl_code before = *image;
    int error = open_own(image);
    if (error) return error;
    size_t mapped = round_pages(image->used);
    memcpy(image->rw, image->rx, mapped);
    error = map_rx(image, image, 0, mapped);
    for (struct tl_code *c = codes; c && !error; c = c->next) {
        if (c->image != image || c->kind == TL_CODE_STEPPING) continue;
        for (size_t page = 0; page < pages(c->used) && !error; page++) {
            size_t at = page * tl_page_bytes;
            if (!c->own[page]) error = map_rx(c, image, at, at + tl_page_bytes);
        }
    }
    close_before(&before);
    if (!error) image->stale = 0;
    return error;
}

int tl_code_start(void) { return -pthread_atfork(before_fork, in_parent, in_child); }
