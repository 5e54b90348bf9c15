/* Intervals that threads of the watched processes spend off the processor, hold mmap_lock or wait for it; each that is
 * long enough goes to the ring with its stacks. Loaded by `source::bpf`, which mirrors the structs in `wire`.
 *
 * All programs but one hang on tracepoints with type information (tp_btf): no kprobe, no trampoline. A lock event is
 * chosen by the address space, not by the process that runs, so that outsiders who take the lock of a watched process
 * are seen. The last is an iterator, which is run when a process comes to be watched: it finds the threads that sleep
 * already, whoever holds the lock for writing, and the address space.
 *
 * The kernel's part of a sleeper's stack costs more than all the rest. It does not change while the thread sleeps, so
 * it is taken when the thread comes back, if the sleep was long; of sleeps that are not over, the iterator takes it.
 *
 * A tracepoint of a process that ends, executes another program, or is not watched any more takes away what the maps
 * hold of it: the kernel uses both thread numbers and the addresses of address spaces again.
 *
 * mini.h declares all that is needed; where the kernel's structs differ between versions, the loader relocates.
 */
#include "mini.h"

#define KERNEL_FRAMES 32
#define USER_FRAMES 64
#define WAKER_KERNEL_FRAMES 16
#define WAKER_USER_FRAMES 32
#define COMM_BYTES 16
#define BUCKETS 48
/* Of the user stack, from its top: enough for the frames of a library between a system call and the program. */
#define WORDS 128
#define FEWER_WORDS 16
#define TARGETS_MAX 1024
/* The state of a thread that leaves the processor for the last time. */
#define TASK_DEAD 0x80
#define INTERRUPTIBLE 1
#define NO_CALL (~0ull)
#define UNINTERRUPTIBLE 2
/* Of the count of a rw_semaphore that is held for writing; and what its owner's address has for flags. */
#define WRITER_LOCKED 1
#define OWNER_FLAGS 7

struct atomic {
    s64 counter;
};

struct rw_semaphore {
    struct atomic count;
    struct atomic owner;
} CORE;

struct mm_struct {
    struct rw_semaphore mmap_lock;
} CORE;

struct atomic_int {
    int counter;
};

struct signal_struct {
    struct atomic_int live;
} CORE;

struct task_struct {
    int pid;
    int tgid;
    u32 __state;
    int on_cpu;
    unsigned long nvcsw, nivcsw;
    struct mm_struct *mm;
    struct signal_struct *signal;
    char comm[COMM_BYTES];
} CORE;

/* Before Linux 5.14. */
struct task_struct___old {
    long state;
} CORE;

struct pt_regs {
    unsigned long orig_ax, di, si, dx, r10, r8, r9, sp, bp, ip;
} CORE;

enum kind { OFF_CPU = 1, HOLD = 2, WAIT = 3 };
enum flags { WRITE = 1, OUTSIDER = 2, PREEMPTED = 4, UNFINISHED = 8 };

/* The registers and the stack's newest words of a program, for programs without frame pointers: `user` of these ends at
 * the leaf. */
struct top {
    u64 ip;
    u64 sp;
    u64 bp;
    u64 words_bytes;
    u64 words[WORDS];
};

/* The thread that an interval is of: who, where, in which system call. */
struct moment {
    u32 kind;
    u32 flags;
    u32 pid;   /* of the process that the thread belongs to */
    u32 tid;
    u32 owner; /* the watched process: whose lock it is, or the same as pid */
    u32 state; /* of the scheduler, when the thread left the processor */
    u64 start_ns;
    u64 end_ns;
    u64 call;  /* the number of the system call, all ones for none */
    u64 args[6];
    char comm[COMM_BYTES];
    u32 kernel_bytes;
    u32 user_bytes;
    u64 kernel[KERNEL_FRAMES];
    u64 user[USER_FRAMES];
    struct top top;
};

struct waker {
    u32 pid;
    u32 tid;
    u64 at_ns;
    char comm[COMM_BYTES];
    u32 kernel_bytes;
    u32 user_bytes;
    u64 kernel[WAKER_KERNEL_FRAMES];
    u64 user[WAKER_USER_FRAMES];
    struct top top;
};

struct off_cpu {
    struct moment moment;
    struct waker waker;
};

/* What a thread is doing to one lock. */
struct lock {
    u64 wait_ns; /* since when it waits; 0: it does not */
    u64 hold_ns; /* since when it holds; 0: it does not */
    u32 wait_write;
    u32 hold_write;
    u32 owner;
    u32 pid;
    char comm[COMM_BYTES];
};

struct lock_key {
    u64 mm;
    u64 tid;
};

struct counts {
    u64 holds[2][BUCKETS]; /* by mode, then by log2 of the nanoseconds */
    u64 waits[2][BUCKETS];
    u64 hold_ns[2];
    u64 wait_ns[2];
    u64 switches;
    u64 off_cpu_ns[4]; /* runnable, interruptible, uninterruptible, other */
    u64 lost_records;  /* the ring was full */
    u64 lost_threads;  /* a map was full */
};

/* A watched process. */
struct target {
    u64 space; /* its address space; 0 until it is known */
    u64 over;  /* it has ended: its number may be another's soon */
};

const volatile u64 off_cpu_min_ns = 1000000;
const volatile u64 lock_min_ns = 100000;
/* The arguments of mmap_lock's tracepoints were (mm, path, write, success) before Linux 6.14, (mm, write, success)
 * since. */
const volatile u32 has_path = 0;

struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, TARGETS_MAX);
    __type(key, u32);
    __type(value, struct target);
} targets SEC(".maps");

/* Address spaces of the targets, and whose they are. */
struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, TARGETS_MAX);
    __type(key, u64);
    __type(value, u32);
} spaces SEC(".maps");

struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, 8192);
    __type(key, u32);
    __type(value, struct off_cpu);
} off SEC(".maps");

struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, 8192);
    __type(key, struct lock_key);
    __type(value, struct lock);
} locks SEC(".maps");

/* What new entries of `off` are copied from; nobody writes to it. */
struct {
    __uint(type, MAP_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct off_cpu);
} zeroes SEC(".maps");

/* Each processor counts for itself. */
struct {
    __uint(type, MAP_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct counts);
} totals SEC(".maps");

struct {
    __uint(type, MAP_RINGBUF);
    __uint(max_entries, 16 << 20);
} ring SEC(".maps");

ALWAYS_INLINE u32 bucket_of(u64 ns)
{
    u32 bucket = 0;
    for (int step = 5; step >= 0; step--) {
        u32 bits = 1u << step;
        if (ns >> bits) {
            ns >>= bits;
            bucket += bits;
        }
    }
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

ALWAYS_INLINE void count(u64 *number, u64 by)
{
    __sync_fetch_and_add(number, by);
}

ALWAYS_INLINE struct counts *own_counts(void)
{
    u32 zero = 0;
    return map_lookup(&totals, &zero);
}

ALWAYS_INLINE void lose_thread(void)
{
    struct counts *counts = own_counts();
    if (counts) count(&counts->lost_threads, 1);
}

ALWAYS_INLINE void lose_record(void)
{
    struct counts *counts = own_counts();
    if (counts) count(&counts->lost_records, 1);
}

ALWAYS_INLINE void read_call(struct moment *moment, struct pt_regs *regs)
{
    /* Threads of the kernel have no registers of a program. */
    moment->call = regs->ip ? regs->orig_ax : NO_CALL;
    moment->args[0] = regs->di;
    moment->args[1] = regs->si;
    moment->args[2] = regs->dx;
    moment->args[3] = regs->r10;
    moment->args[4] = regs->r8;
    moment->args[5] = regs->r9;
}

ALWAYS_INLINE void read_registers(struct top *top, struct pt_regs *regs)
{
    top->ip = regs->ip;
    top->sp = regs->sp;
    top->bp = regs->bp;
    top->words_bytes = 0;
}

/* The top of the current thread's user stack. Less of it near the stack's end, where nothing may be mapped. */
ALWAYS_INLINE void read_top(struct top *top, struct pt_regs *regs)
{
    read_registers(top, regs);
    void *sp = (void *)top->sp;
    if (!probe_read_user(top->words, sizeof(top->words), sp)) {
        top->words_bytes = sizeof(top->words);
    } else if (!probe_read_user(top->words, FEWER_WORDS * sizeof(u64), sp)) {
        top->words_bytes = FEWER_WORDS * sizeof(u64);
    } else if (!probe_read_user(top->words, sizeof(u64), sp)) {
        top->words_bytes = sizeof(u64);
    }
}

/* Fills in where the current thread is in its program. */
ALWAYS_INLINE void look(void *context, struct moment *moment)
{
    struct pt_regs *regs = task_pt_regs(get_current_task_btf());
    read_call(moment, regs);
    read_top(&moment->top, regs);
    long bytes = get_stack(context, moment->user, sizeof(moment->user), USER_STACK);
    moment->user_bytes = bytes > 0 ? bytes : 0;
}

/* Fills in where a thread is in the kernel that is on no processor. */
ALWAYS_INLINE void look_below(struct task_struct *task, struct moment *moment)
{
    long bytes = get_task_stack(task, moment->kernel, sizeof(moment->kernel), 0);
    moment->kernel_bytes = bytes > 0 ? bytes : 0;
}

ALWAYS_INLINE u32 state_of(struct task_struct *task)
{
    if (field_exists(task->__state)) return task->__state;
    return ((struct task_struct___old *)task)->state;
}

/* Takes away an address space, if it is known as that process's. */
ALWAYS_INLINE void forget_space(u64 space, u32 tgid)
{
    u32 *owner = map_lookup(&spaces, &space);
    if (owner && *owner == tgid) map_delete(&spaces, &space);
}

/* Notes which address space a process has now. */
ALWAYS_INLINE void learn(struct target *target, u32 tgid, u64 space)
{
    if (!space || space == target->space || target->over) return;
    if (target->space) forget_space(target->space, tgid);
    /* One that a child has from vfork stays its parent's. */
    map_update(&spaces, &space, &tgid, NOEXIST);
    target->space = space;
}

/* The entry of a thread that is about to sleep, or sleeps. */
ALWAYS_INLINE struct off_cpu *entry_of(u32 tid)
{
    struct off_cpu *entry = map_lookup(&off, &tid);
    if (entry) return entry;
    u32 zero = 0;
    struct off_cpu *empty = map_lookup(&zeroes, &zero);
    if (!empty) return 0;
    map_update(&off, &tid, empty, NOEXIST);
    entry = map_lookup(&off, &tid);
    if (!entry) lose_thread();
    return entry;
}

ALWAYS_INLINE void begin(struct off_cpu *entry, struct task_struct *task, u32 flags, u32 state)
{
    struct moment *moment = &entry->moment;
    moment->kind = OFF_CPU;
    moment->flags = flags;
    moment->pid = task->tgid;
    moment->tid = task->pid;
    moment->owner = task->tgid;
    moment->state = state;
    moment->end_ns = 0;
    moment->kernel_bytes = 0;
    probe_read_kernel(moment->comm, sizeof(moment->comm), task->comm);
    entry->waker.tid = 0;
    entry->waker.at_ns = 0;
}

ALWAYS_INLINE void leave(void *context, struct task_struct *task, u32 preempted, u64 now)
{
    u32 tgid = task->tgid, tid = task->pid;
    struct target *target = map_lookup(&targets, &tgid);
    if (!target) return;
    u32 state = state_of(task);
    if (state & TASK_DEAD) {
        map_delete(&off, &tid);
        return;
    }
    learn(target, tgid, (u64)task->mm);
    struct off_cpu *entry = entry_of(tid);
    if (!entry) return;
    begin(entry, task, preempted ? PREEMPTED : 0, preempted ? 0 : state);
    look(context, &entry->moment);
    entry->moment.start_ns = now;
}

ALWAYS_INLINE void arrive(struct task_struct *task, u64 now)
{
    u32 tid = task->pid;
    struct off_cpu *entry = map_lookup(&off, &tid);
    if (!entry || !entry->moment.start_ns) return;
    u32 tgid = entry->moment.pid;
    if (!map_lookup(&targets, &tgid)) {
        map_delete(&off, &tid);
        return;
    }
    u64 ns = now - entry->moment.start_ns;
    u32 state = entry->moment.state;
    u32 kind = state == 0 ? 0 : state & 1 ? 1 : state & 2 ? 2 : 3;
    struct counts *counts = own_counts();
    if (counts) {
        count(&counts->switches, 1);
        count(&counts->off_cpu_ns[kind], ns);
    }
    if (ns >= off_cpu_min_ns) {
        entry->moment.end_ns = now;
        look_below(task, &entry->moment);
        /* Without a waker, only what is before it. */
        u64 bytes = entry->waker.at_ns ? sizeof(*entry) : sizeof(entry->moment);
        if (ringbuf_output(&ring, entry, bytes, NO_WAKEUP)) lose_record();
    }
    entry->moment.start_ns = 0;
}

SEC("tp_btf/sched_switch")
int on_switch(u64 *context)
{
    u64 now = ktime_get_ns();
    leave(context, (struct task_struct *)context[1], context[0], now);
    arrive((struct task_struct *)context[2], now);
    return 0;
}

/* Who ends a long sleep: of a lock in user space, the one that unlocked it. */
SEC("tp_btf/sched_waking")
int on_waking(u64 *context)
{
    u32 tid = ((struct task_struct *)context[0])->pid;
    struct off_cpu *entry = map_lookup(&off, &tid);
    if (!entry || !entry->moment.start_ns || entry->waker.at_ns) return 0;
    u64 now = ktime_get_ns();
    if (now - entry->moment.start_ns < off_cpu_min_ns) return 0;
    struct waker *waker = &entry->waker;
    u64 ids = get_current_pid_tgid();
    waker->pid = ids >> 32;
    waker->tid = ids;
    get_current_comm(waker->comm, sizeof(waker->comm));
    struct task_struct *current = get_current_task_btf();
    waker->top.words_bytes = 0;
    if (current->mm) read_top(&waker->top, task_pt_regs(current));
    long bytes = get_stack(context, waker->kernel, sizeof(waker->kernel), 0);
    waker->kernel_bytes = bytes > 0 ? bytes : 0;
    bytes = get_stack(context, waker->user, sizeof(waker->user), USER_STACK);
    waker->user_bytes = bytes > 0 ? bytes : 0;
    waker->at_ns = now;
    return 0;
}

/* Its own entry goes when the thread leaves the processor for the last time, which is later. */
SEC("tp_btf/sched_process_exit")
int on_exit(u64 *context)
{
    struct task_struct *task = (struct task_struct *)context[0];
    u32 tgid = task->tgid;
    struct target *target = map_lookup(&targets, &tgid);
    /* Another thread goes on. */
    if (!target || task->signal->live.counter) return 0;
    target->over = 1;
    if (target->space) forget_space(target->space, tgid);
    target->space = 0;
    return 0;
}

SEC("tp_btf/sched_process_exec")
int on_exec(u64 *context)
{
    struct task_struct *task = (struct task_struct *)context[0];
    u32 tgid = task->tgid, tid_before = context[1];
    struct target *target = map_lookup(&targets, &tgid);
    if (!target) return 0;
    /* A thread that executes a program gets the number of its process. */
    if (tid_before != (u32)task->pid) map_delete(&off, &tid_before);
    struct lock_key key = { .mm = target->space, .tid = tid_before };
    map_delete(&locks, &key);
    learn(target, tgid, (u64)task->mm);
    return 0;
}

ALWAYS_INLINE void emit(void *context, u32 kind, struct lock *lock, u32 write, u64 start, u64 end)
{
    struct moment *moment = ringbuf_reserve(&ring, sizeof(*moment), 0);
    if (!moment) {
        lose_record();
        return;
    }
    u64 ids = get_current_pid_tgid();
    moment->kind = kind;
    moment->flags = (write ? WRITE : 0) | (lock->owner == (u32)(ids >> 32) ? 0 : OUTSIDER);
    moment->pid = ids >> 32;
    moment->tid = ids;
    moment->owner = lock->owner;
    moment->state = 0;
    moment->start_ns = start;
    moment->end_ns = end;
    get_current_comm(moment->comm, sizeof(moment->comm));
    look(context, moment);
    long bytes = get_stack(context, moment->kernel, sizeof(moment->kernel), 0);
    moment->kernel_bytes = bytes > 0 ? bytes : 0;
    ringbuf_submit(moment, NO_WAKEUP);
}

ALWAYS_INLINE u32 argument(u64 *context, int number)
{
    u64 value;
    if (has_path) {
        value = number == 1 ? context[2] : context[3];
        asm volatile("%0 += 0" : "+r"(value));
    } else {
        value = number == 1 ? context[1] : context[2];
        asm volatile("%0 |= 0" : "+r"(value));
    }
    return value & 1;
}

ALWAYS_INLINE void add_lock(u64 space, u32 owner, struct lock *lock)
{
    u64 ids = get_current_pid_tgid();
    struct lock_key key = { .mm = space, .tid = (u32)ids };
    lock->owner = owner;
    lock->pid = ids >> 32;
    get_current_comm(lock->comm, sizeof(lock->comm));
    if (map_update(&locks, &key, lock, ANY)) lose_thread();
}

ALWAYS_INLINE void end_hold(void *context, struct lock *lock, u64 now)
{
    if (!lock->hold_ns) return;
    u64 ns = now - lock->hold_ns;
    u32 mode = lock->hold_write ? 1 : 0;
    struct counts *counts = own_counts();
    if (counts) {
        count(&counts->holds[mode][bucket_of(ns)], 1);
        count(&counts->hold_ns[mode], ns);
    }
    if (ns >= lock_min_ns) emit(context, HOLD, lock, mode, lock->hold_ns, now);
    lock->hold_ns = 0;
}

SEC("tp_btf/mmap_lock_start_locking")
int on_start_locking(u64 *context)
{
    u64 space = context[0];
    u32 *owner = map_lookup(&spaces, &space);
    if (!owner) return 0;
    u32 write = argument(context, 1);
    struct lock_key key = { .mm = space, .tid = (u32)get_current_pid_tgid() };
    struct lock *known = map_lookup(&locks, &key);
    if (known) {
        known->wait_ns = ktime_get_ns();
        known->wait_write = write;
        return 0;
    }
    struct lock lock = { .wait_ns = ktime_get_ns(), .wait_write = write };
    add_lock(space, *owner, &lock);
    return 0;
}

SEC("tp_btf/mmap_lock_acquire_returned")
int on_acquired(u64 *context)
{
    u64 space = context[0];
    u32 *owner = map_lookup(&spaces, &space);
    if (!owner) return 0;
    struct lock_key key = { .mm = space, .tid = (u32)get_current_pid_tgid() };
    struct lock *lock = map_lookup(&locks, &key);
    u32 write = argument(context, 1);
    u32 success = argument(context, 2);
    u64 now = ktime_get_ns();
    if (!lock) {
        /* It waited when the process came to be watched. */
        struct lock fresh = { .hold_ns = now, .hold_write = write };
        if (success) add_lock(space, *owner, &fresh);
        return 0;
    }
    u64 wait_ns = lock->wait_ns;
    lock->wait_ns = 0;
    if (!success) {
        /* Tried, or killed while it waited. */
        if (!lock->hold_ns) map_delete(&locks, &key);
        return 0;
    }
    if (wait_ns) {
        u64 ns = now - wait_ns;
        struct counts *counts = own_counts();
        if (counts) {
            count(&counts->waits[write][bucket_of(ns)], 1);
            count(&counts->wait_ns[write], ns);
        }
        if (ns >= lock_min_ns) emit(context, WAIT, lock, write, wait_ns, now);
    } else if (lock->hold_write && !write) {
        /* A hold for writing that goes on for reading: munmap does so. */
        end_hold(context, lock, now);
    }
    lock->hold_write = write;
    lock->hold_ns = now;
    return 0;
}

SEC("tp_btf/mmap_lock_released")
int on_released(u64 *context)
{
    struct lock_key key = { .mm = context[0], .tid = (u32)get_current_pid_tgid() };
    struct lock *lock = map_lookup(&locks, &key);
    if (!lock) return 0;
    end_hold(context, lock, ktime_get_ns());
    map_delete(&locks, &key);
    return 0;
}

/* Whether the thread has the lock of its own address space for writing. */
ALWAYS_INLINE int is_writer(struct task_struct *task)
{
    struct mm_struct *space = task->mm;
    if (!space || !field_exists(space->mmap_lock.owner)) return 0;
    u64 owner = space->mmap_lock.owner.counter;
    return space->mmap_lock.count.counter & WRITER_LOCKED && (owner & ~OWNER_FLAGS) == (u64)task;
}

/* What threads are doing that did it before they were watched: it is taken to begin now. And where those are in the
 * kernel that sleep. */
SEC("iter/task")
int on_scan(u64 *context)
{
    struct task_struct *task = (struct task_struct *)context[1];
    if (!task) return 0;
    u32 tgid = task->tgid, tid = task->pid;
    struct target *target = map_lookup(&targets, &tgid);
    if (!target) return 0;
    learn(target, tgid, (u64)task->mm);
    u64 now = ktime_get_ns();
    if (is_writer(task)) {
        struct lock_key key = { .mm = (u64)task->mm, .tid = tid };
        struct lock lock = { .hold_ns = now, .hold_write = 1, .owner = tgid, .pid = tgid };
        probe_read_kernel(lock.comm, sizeof(lock.comm), task->comm);
        map_update(&locks, &key, &lock, NOEXIST);
        /* It may have let go of it before there was an entry to be taken away. */
        if (!is_writer(task)) map_delete(&locks, &key);
    }
    u32 state = state_of(task);
    u64 turns = task->nvcsw + task->nivcsw;
    int is_asleep = state & (INTERRUPTIBLE | UNINTERRUPTIBLE) && !(field_exists(task->on_cpu) && task->on_cpu);
    struct off_cpu *entry = map_lookup(&off, &tid);
    if (entry) {
        u64 start = entry->moment.start_ns;
        if (start && !entry->moment.kernel_bytes) look_below(task, &entry->moment);
        /* It ran meanwhile: that was another sleep. */
        if (entry->moment.start_ns != start) entry->moment.kernel_bytes = 0;
        return 0;
    }
    if (!is_asleep) return 0;
    entry = entry_of(tid);
    if (!entry) return 0;
    struct pt_regs *regs = task_pt_regs(task);
    begin(entry, task, 0, state);
    read_call(&entry->moment, regs);
    read_registers(&entry->moment.top, regs);
    entry->moment.user[0] = regs->ip;
    entry->moment.user_bytes = sizeof(u64);
    look_below(task, &entry->moment);
    entry->moment.start_ns = now;
    /* Whoever ran meanwhile writes its own entry when it sleeps again. */
    if (state_of(task) != state || task->nvcsw + task->nivcsw != turns) map_delete(&off, &tid);
    return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
