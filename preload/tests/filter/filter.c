/* Runs a program under a filter that kills it for system calls that systemd leaves out of services with
 * SystemCallFilter=@system-service and SystemCallFilter=~@resources @privileged: those that an allocator may think of. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILLS(call)                                                                                                   \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

int main(int count, char **arguments)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        KILLS(mincore),
        KILLS(sched_setaffinity),
        KILLS(sched_setattr),
        KILLS(sched_setparam),
        KILLS(sched_setscheduler),
        KILLS(set_mempolicy),
        KILLS(mbind),
        KILLS(move_pages),
        KILLS(setpriority),
        KILLS(setrlimit),
        KILLS(capset),
        KILLS(perf_event_open),
        KILLS(ptrace),
        KILLS(userfaultfd),
        KILLS(process_vm_readv),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
    if (count < 2)
        return 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        printf("no filter: %s\n", strerror(errno));
        return 0;
    }
    if (strcmp(arguments[1], "mincore") == 0)
        return syscall(SYS_mincore, 0, 0, 0) == 12345;
    execv(arguments[1], arguments + 1);
    return 3;
}
