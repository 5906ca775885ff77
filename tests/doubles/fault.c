/* Makes chosen system calls of a program fail: built by tests/doubles/shim.py, used with LD_PRELOAD, told by the environment.
 *
 * FAULT_OP     write | fsync | open | rename
 * FAULT_PATH   the end of the path; with a slash at its own end any path through that directory
 * FAULT_WHILE  a file: only while it exists anything fails, and calls are counted (without it: always)
 * FAULT_AFTER  so many calls succeed first (0)       FAULT_COUNT  so many then fail (-1: all)
 * FAULT_ERRNO  5 = EIO, 28 = ENOSPC (5)              FAULT_SHORT  the first write that fails writes so many bytes instead
 * FAULT_KILL   1: SIGKILL instead of an error        FSYNC_US     every fsync takes so long
 * CLOCK_SHIFT_FILE  holds the seconds to add to the wall clock
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name)                       \
    static __typeof__(&name) next;       \
    if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int meant(const char *path) {
    const char *part = getenv("FAULT_PATH");
    if (!part || !*part) return 0;
    size_t whole = strlen(path), size = strlen(part);
    if (part[size - 1] == '/') return strstr(path, part) != 0;
    return whole >= size && !strcmp(path + whole - size, part);
}

static int fails(const char *op, int fd, const char *path) {
    static long calls;
    const char *wanted = getenv("FAULT_OP"), *armed = getenv("FAULT_WHILE");
    char link[64], target[4096];
    if (!wanted || strcmp(op, wanted)) return 0;
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length < 0) return 0;
        target[length] = 0;
        path = target;
    }
    if (!meant(path) || (armed && syscall(SYS_faccessat, AT_FDCWD, armed, F_OK))) return 0;
    long after = setting("FAULT_AFTER", 0), count = setting("FAULT_COUNT", -1), call = __sync_add_and_fetch(&calls, 1);
    if (call <= after || (count >= 0 && call > after + count)) return 0;
    if (setting("FAULT_KILL", 0)) kill(getpid(), SIGKILL);
    errno = (int)setting("FAULT_ERRNO", EIO);
    return 1;
}

/* -1: fails; 0: as usual; more: so many bytes only */
static ssize_t spoilt(int fd, size_t size) {
    static int shortened;
    int before = errno;
    if (fd <= 2 || !fails("write", fd, 0)) {
        errno = before;
        return 0;
    }
    size_t part = (size_t)setting("FAULT_SHORT", 0);
    return part && part < size && !__sync_fetch_and_add(&shortened, 1) ? (ssize_t)part : -1;
}

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    ssize_t part = spoilt(fd, size);
    return part < 0 ? -1 : next(fd, data, part ? (size_t)part : size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEXT(pwrite);
    ssize_t part = spoilt(fd, size);
    return part < 0 ? -1 : next(fd, data, part ? (size_t)part : size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(pwrite64);
    ssize_t part = spoilt(fd, size);
    return part < 0 ? -1 : next(fd, data, part ? (size_t)part : size, at);
}
int fsync(int fd) {
    NEXT(fsync);
    usleep((useconds_t)setting("FSYNC_US", 0));
    return fails("fsync", fd, 0) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(fdatasync);
    usleep((useconds_t)setting("FSYNC_US", 0));
    return fails("fsync", fd, 0) ? -1 : next(fd);
}
int rename(const char *from, const char *to) {
    NEXT(rename);
    return fails("rename", 0, to) ? -1 : next(from, to);
}
int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    NEXT(renameat);
    return fails("rename", 0, to) ? -1 : next(from_fd, from, to_fd, to);
}

#define MODE(flags)                                                 \
    mode_t mode = 0;                                                \
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {           \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode = va_arg(rest, mode_t);                                \
        va_end(rest);                                               \
    }
int open(const char *path, int flags, ...) {
    NEXT(open);
    MODE(flags)
    return fails("open", 0, path) ? -1 : next(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    NEXT(open64);
    MODE(flags)
    return fails("open", 0, path) ? -1 : next(path, flags, mode);
}
int openat(int fd, const char *path, int flags, ...) {
    NEXT(openat);
    MODE(flags)
    return fails("open", 0, path) ? -1 : next(fd, path, flags, mode);
}

static long shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    char text[32] = "";
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (syscall(SYS_read, fd, text, sizeof text - 1) < 0) *text = 0;
    syscall(SYS_close, fd);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    int result = next(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}
