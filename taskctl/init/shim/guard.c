#include "guard.h"

#include <errno.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"
#include "root.h"
#include "start.h"

/* ---- capabilities ------------------------------------------------------------------------ */

void bound_capabilities(uint64_t mask)
{
    for (int cap = 0; cap < 64; cap++)
        if (!(mask >> cap & 1))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

void drop_capabilities(uint64_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capget, &header, data) < 0)
        give_up(START_FAILED, "read", "the capabilities");
    for (int i = 0; i < 2; i++) {
        uint32_t allowed = (uint32_t)(mask >> (32 * i));
        data[i].effective &= allowed;
        data[i].permitted &= allowed;
        data[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        give_up(START_FAILED, "drop", "capabilities");
}

/* ---- system calls ------------------------------------------------------------------------ */

#if defined __x86_64__
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "taskctl is built for x86_64 and aarch64"
#endif

/* Calls from this number on are newer than this list. A program is told that they do not exist
 * (ENOSYS), and takes the older call in their stead. 462 (mseal) is the last of Linux 6.10. */
enum { FIRST_UNKNOWN_CALL = 463, X32_CALL_BIT = 0x40000000 };

/* They reach what is not the container's: the kernel itself, its clock, keyrings and quotas,
 * mounts and namespaces, other processes' files; or are a known way out (io_uring, userfaultfd).
 * A container that was given the capability `unless` may use the call, as with moby's profile. */
enum { NEVER = -1 };

static const struct { int call, unless; } refused_calls[] = {
    {SYS_acct, CAP_SYS_PACCT}, {SYS_add_key, NEVER}, {SYS_bpf, CAP_BPF},
    {SYS_chroot, CAP_SYS_CHROOT}, {SYS_clock_settime, CAP_SYS_TIME},
    {SYS_delete_module, CAP_SYS_MODULE}, {SYS_fanotify_init, CAP_SYS_ADMIN},
    {SYS_finit_module, CAP_SYS_MODULE}, {SYS_init_module, CAP_SYS_MODULE},
    {SYS_kcmp, CAP_SYS_PTRACE}, {SYS_kexec_load, CAP_SYS_BOOT}, {SYS_keyctl, NEVER},
    {SYS_lookup_dcookie, CAP_SYS_ADMIN}, {SYS_mbind, CAP_SYS_NICE}, {SYS_migrate_pages, NEVER},
    {SYS_mount, CAP_SYS_ADMIN}, {SYS_move_pages, NEVER}, {SYS_name_to_handle_at, NEVER},
    {SYS_nfsservctl, NEVER}, {SYS_open_by_handle_at, CAP_DAC_READ_SEARCH},
    {SYS_perf_event_open, CAP_PERFMON}, {SYS_pivot_root, NEVER},
    {SYS_process_madvise, CAP_SYS_PTRACE}, {SYS_quotactl, CAP_SYS_ADMIN},
    {SYS_reboot, CAP_SYS_BOOT}, {SYS_request_key, NEVER}, {SYS_set_mempolicy, CAP_SYS_NICE},
    {SYS_setdomainname, CAP_SYS_ADMIN}, {SYS_sethostname, CAP_SYS_ADMIN},
    {SYS_setns, CAP_SYS_ADMIN}, {SYS_settimeofday, CAP_SYS_TIME}, {SYS_swapoff, NEVER},
    {SYS_swapon, NEVER}, {SYS_syslog, CAP_SYSLOG}, {SYS_umount2, CAP_SYS_ADMIN},
    {SYS_unshare, CAP_SYS_ADMIN}, {SYS_userfaultfd, NEVER}, {SYS_vhangup, CAP_SYS_TTY_CONFIG},
    /* The same numbers on every architecture, and newer than some headers: io_uring_setup, _enter,
     * _register; open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr;
     * pidfd_getfd, quotactl_fd, set_mempolicy_home_node. */
    {425, NEVER}, {426, NEVER}, {427, NEVER},
    {428, CAP_SYS_ADMIN}, {429, CAP_SYS_ADMIN}, {430, CAP_SYS_ADMIN}, {431, CAP_SYS_ADMIN},
    {432, CAP_SYS_ADMIN}, {433, CAP_SYS_ADMIN}, {442, CAP_SYS_ADMIN},
    {438, CAP_SYS_PTRACE}, {443, CAP_SYS_ADMIN}, {450, CAP_SYS_NICE},
#if defined __x86_64__
    {SYS_create_module, NEVER}, {SYS_get_kernel_syms, NEVER}, {SYS_ioperm, CAP_SYS_RAWIO},
    {SYS_iopl, CAP_SYS_RAWIO}, {SYS_kexec_file_load, CAP_SYS_BOOT}, {SYS_modify_ldt, NEVER},
    {SYS_query_module, NEVER}, {SYS__sysctl, NEVER}, {SYS_sysfs, NEVER}, {SYS_uselib, NEVER},
    {SYS_ustat, NEVER},
#else
    {294, CAP_SYS_BOOT}, /* kexec_file_load */
#endif
};

static int has_capability(const struct spec *spec, int capability)
{
    return capability != NEVER && spec->capabilities >> capability & 1;
}

struct filter {
    struct sock_filter steps[256];
    unsigned short count;
};

static void step(struct filter *filter, unsigned short code, uint32_t k, uint8_t yes, uint8_t no)
{
    filter->steps[filter->count++] = (struct sock_filter){.code = code, .k = k, .jt = yes, .jf = no};
}

static void load_word(struct filter *filter, size_t offset)
{
    step(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* End the call with `error` if the word that was loaded compares as `how` says with `k`. */
static void refuse_if(struct filter *filter, unsigned short how, uint32_t k, int error)
{
    step(filter, (unsigned short)(BPF_JMP | how | BPF_K), k, 0, 1);
    step(filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error, 0, 0);
}

/* Look at an argument of one call: `refusals` pairs of steps follow, which the caller adds. The
 * low word is enough: the kernel takes these arguments as 32 bits. */
static void if_call(struct filter *filter, int call, int argument, int refusals)
{
    load_word(filter, offsetof(struct seccomp_data, nr));
    step(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(1 + 2 * refusals));
    load_word(filter, offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
}

void filter_calls(const struct spec *spec)
{
    static struct filter filter;
    /* All CLONE_NEW…; CLONE_NEWTIME lies within CSIGNAL and can be given to clone3 alone. */
    const uint32_t namespaces = 0x7e020000;
    load_word(&filter, offsetof(struct seccomp_data, arch));
    step(&filter, BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0); /* others number calls differently */
    step(&filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
    load_word(&filter, offsetof(struct seccomp_data, nr));
    refuse_if(&filter, BPF_JGE, FIRST_UNKNOWN_CALL, ENOSYS); /* x32 calls, too */
    for (size_t i = 0; i < sizeof refused_calls / sizeof *refused_calls; i++)
        if (!has_capability(spec, refused_calls[i].unless))
            refuse_if(&filter, BPF_JEQ, (uint32_t)refused_calls[i].call, EPERM);
    if (!has_capability(spec, CAP_SYS_ADMIN)) {
        /* Its flags are behind a pointer, which a filter cannot follow; clone() is taken instead. */
        refuse_if(&filter, BPF_JEQ, 435 /* clone3 */, ENOSYS);
        if_call(&filter, SYS_clone, 0, 1);
        refuse_if(&filter, BPF_JSET, namespaces, EPERM);
    }
    if_call(&filter, SYS_socket, 0, 2);
    refuse_if(&filter, BPF_JEQ, 40 /* AF_VSOCK */, EPERM);
    refuse_if(&filter, BPF_JEQ, 38 /* AF_ALG */, EAFNOSUPPORT);
    if_call(&filter, SYS_ioctl, 1, 2);
    refuse_if(&filter, BPF_JEQ, 0x5412 /* TIOCSTI */, EPERM);
    refuse_if(&filter, BPF_JEQ, 0x541c /* TIOCLINUX */, EPERM);
    step(&filter, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    struct sock_fprog program = {.len = filter.count, .filter = filter.steps};
    /* EINVAL: this kernel has no seccomp. The node says so at its start. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 && errno != EINVAL)
        give_up(START_FAILED, "filter", "system calls");
}

/* ---- sockets ----------------------------------------------------------------------------- */

void keep_from_abstract_sockets(void)
{
    const struct { uint64_t files, network, scoped; } attributes = {.scoped = 1 /* abstract sockets */};
    long ruleset = syscall(444 /* landlock_create_ruleset */, &attributes, sizeof attributes, 0);
    if (ruleset < 0)
        return;
    if (syscall(446 /* landlock_restrict_self */, ruleset, 0) < 0)
        give_up(START_FAILED, "restrict", "abstract sockets");
    close((int)ruleset);
}

/* ---- devices and the kernel's file systems ----------------------------------------------- */

void make_devices(const struct spec *spec)
{
    static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"}, {"fd/0", "stdin"},
                                           {"fd/1", "stdout"}, {"fd/2", "stderr"},
                                           {"pts/ptmx", "ptmx"}};
    char path[PATH_MAX];
    if (!*spec->rootfs)
        make_entry(ROOT "/dev", 1, 0755);
    if (mount("tmpfs", ROOT "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") < 0)
        give_up(START_FAILED, "mount a tmpfs on", "/dev");
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        show(spec, "/dev", ROOT "/dev", nodes[i], 0);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, ROOT "/dev/%s", links[i][1]);
        if (symlink(links[i][0], path) < 0)
            give_up(START_FAILED, "create", path);
    }
    make_entry(ROOT "/dev/shm", 1, 0755);
    if (mount("shm", ROOT "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777") < 0)
        give_up(START_FAILED, "mount a tmpfs on", "/dev/shm");
    make_entry(ROOT "/dev/pts", 1, 0755);
    if (mount("devpts", ROOT "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620") < 0 && errno != EPERM && errno != ENODEV)
        give_up(START_FAILED, "mount", "/dev/pts"); /* without: no terminals can be opened */
}

void guard_kernel_paths(const struct spec *spec)
{
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                           "/proc/sysrq-trigger"};
    static const char *const hidden[] = {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi",
        "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/debug",
        "/sys/kernel/tracing"};
    struct stat st;
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
        if (!stat(readonly[i], &st))
            attach(spec, readonly[i], readonly[i], 1);
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        mask(hidden[i]);
    if (!*spec->rootfs && !lstat("/var/run", &st) && S_ISDIR(st.st_mode)) /* elsewhere it is a link to /run */
        mask("/var/run");
}
