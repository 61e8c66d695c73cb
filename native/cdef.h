/* What Python calls through cffi: everything that is not on the fast path. Each call drops the GIL. */

struct tl_code;

struct tl_code *tl_code_image(size_t capacity_bytes, int *error);
struct tl_code *tl_code_copy(struct tl_code *image, size_t slots, struct tl_code *home, int *error);
int tl_code_free(struct tl_code *code);
uint64_t tl_code_base(const struct tl_code *code);
uint64_t tl_code_slot_address(const struct tl_code *code, size_t slot);
size_t tl_code_used(const struct tl_code *code);
size_t tl_code_capacity(const struct tl_code *code);
size_t tl_code_slots(const struct tl_code *code);
size_t tl_code_own_pages(const struct tl_code *code);
int tl_code_publish(struct tl_code *image, const uint8_t *bytes, size_t count, size_t align_bytes, size_t *offset);
int tl_code_patch(struct tl_code *copy, size_t offset, const uint8_t *bytes, size_t count);
int tl_code_patch_each(struct tl_code *copy, const uint32_t *offsets, size_t n, const uint8_t *bytes, size_t count);
int tl_code_read(const struct tl_code *code, size_t offset, uint8_t *bytes, size_t count);
struct tl_slot_place {
    uint64_t pc;
    uint8_t start;
    int8_t sp_adjust;
    int8_t pc_register;
};
int tl_code_slot_write(struct tl_code *copy, size_t slot, const uint8_t *bytes, size_t count,
                       const struct tl_slot_place *places, size_t n);
int tl_code_breakpoint(struct tl_code *copy, size_t offset, long slot);

int tl_signals_install(void);
int tl_signals_remove(void);
int tl_park(int64_t timeout_us);
void tl_unpark(void);
void tl_threads_recheck(void);
void tl_ticker_set_interval(uint32_t interval_us);
void tl_pool_trim(void);
int tl_arch_direct_allowed(void);
int tl_arch_state_component(unsigned component, uint32_t *offset, uint32_t *bytes);
long tl_memory_read(uint64_t address, uint8_t *bytes, size_t count);
long tl_memory_write(uint64_t address, const uint8_t *bytes, size_t count);

extern const char tl_stub_check[], tl_stub_host[];
extern const void *const tl_helpers[];
void tl_memory_trim(void);
extern size_t tl_page_bytes, tl_state_bytes;
extern uint32_t tl_fork_generation;

#define TL_SLOT_BYTES ...
#define TL_SLOT_PLACES ...
#define TL_SPARE_SLOTS ...
#define TL_ERR_CAPACITY ...
#define TL_ERR_RANGE ...
#define TL_ERR_KIND ...
#define TL_ERR_BROKEN ...
#define TL_ERR_CLOSED ...
