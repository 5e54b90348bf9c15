/* What the program needs of the kernel's and libbpf's headers, so that it is built without either. Helper numbers are
 * part of the kernel's interface to programs (include/uapi/linux/bpf.h). */
#ifndef MINI_H
#define MINI_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define CORE __attribute__((preserve_access_index))
#define ALWAYS_INLINE static __attribute__((always_inline)) inline
/* Whether the running kernel's type has the field. */
#define field_exists(field) __builtin_preserve_field_info(field, 2)

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_RINGBUF = 27 };
enum { ANY = 0, NOEXIST = 1 };
/* Of a record in a ring: whoever reads it comes by himself. */
enum { NO_WAKEUP = 1 };
enum { USER_STACK = 1 << 8 };

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const ktime_get_ns)(void) = (void *)5;
static u64 (*const get_current_pid_tgid)(void) = (void *)14;
static long (*const get_current_comm)(void *buffer, u32 bytes) = (void *)16;
static long (*const get_stack)(void *context, void *buffer, u32 bytes, u64 flags) = (void *)67;
static long (*const probe_read_user)(void *to, u32 bytes, const void *from) = (void *)112;
static long (*const probe_read_kernel)(void *to, u32 bytes, const void *from) = (void *)113;
static long (*const ringbuf_output)(void *ring, void *data, u64 bytes, u64 flags) = (void *)130;
static void *(*const ringbuf_reserve)(void *ring, u64 bytes, u64 flags) = (void *)131;
static void (*const ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*const get_task_stack)(void *task, void *buffer, u32 bytes, u64 flags) = (void *)141;
static void *(*const get_current_task_btf)(void) = (void *)158;
static void *(*const task_pt_regs)(void *task) = (void *)175;

#endif
