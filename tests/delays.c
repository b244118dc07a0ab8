/* Delays at random after the system calls around which processes and threads race: `make test-delayed`.
 *
 * Loaded with LD_PRELOAD into everything a test starts. Each call named here sleeps now and then, mostly up to 60 ms and one
 * time in twelve up to 700 ms, so that "it is always over by then" is untrue in hours instead of months. Nothing else changes:
 * arguments, results and errno pass through. What a process does without the C library's names (static programs, io_uring,
 * an environment without LD_PRELOAD) is not delayed. vfork is left alone, as its frame may not be returned from twice.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static __thread uint64_t state;

/* Marsaglia's xorshift64 (2003), begun by the time and the thread's number. */
static uint64_t random64(void) {
    if (!state) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        state = ((uint64_t)now.tv_nsec * 2654435761u) ^ ((uint64_t)syscall(SYS_gettid) << 32) ^ (uint64_t)now.tv_sec;
        state |= 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Sleep one time in so many; 0: never. */
static void delay(unsigned one_in) {
    if (one_in == 0) return;
    int kept = errno;
    uint64_t drawn = random64();
    if (drawn % one_in == 0) {
        long milliseconds = 1 + (long)((drawn >> 20) % ((drawn >> 50) % 12 == 0 ? 700 : 60));
        struct timespec span = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
        syscall(SYS_nanosleep, &span, 0);
    }
    errno = kept;
}

/* CALL(result, name, parameters, arguments, a delay one time in so many before it and after it). */
#define CALL(result, name, parameters, arguments, before, after) \
    result name parameters {                                     \
        static result(*real) parameters;                         \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        delay(before);                                           \
        result got = real arguments;                             \
        delay(after);                                            \
        return got;                                              \
    }

/* 50,000 bytes: how Python's subprocess asks whether a start went well; its child may be over before that is read. */
CALL(ssize_t, read, (int file, void *to, size_t size), (file, to, size), 0, size == 50000 ? 8 : 4000)
CALL(ssize_t, write, (int file, const void *from, size_t size), (file, from, size), 1500, 1500)
CALL(ssize_t, send, (int file, const void *from, size_t size, int flags), (file, from, size, flags), 150, 0)
CALL(ssize_t, recv, (int file, void *to, size_t size, int flags), (file, to, size, flags), 0, 150)
CALL(int, connect, (int file, const struct sockaddr *to, socklen_t size), (file, to, size), 20, 20)
CALL(int, accept4, (int file, struct sockaddr *from, socklen_t *size, int flags), (file, from, size, flags), 0, 100)
CALL(int, epoll_wait, (int file, struct epoll_event *events, int most, int timeout), (file, events, most, timeout), 0, 400)
CALL(int, poll, (struct pollfd *files, nfds_t count, int timeout), (files, count, timeout), 0, 100)
CALL(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), 20, 20)
CALL(pid_t, wait4, (pid_t pid, int *status, int options, struct rusage *usage), (pid, status, options, usage), 20, 20)
CALL(int, kill, (pid_t pid, int number), (pid, number), 10, 10)
CALL(int, rename, (const char *from, const char *to), (from, to), 100, 100)
CALL(int, unlink, (const char *path), (path), 100, 100)
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), 100, 100)
CALL(int, execve, (const char *path, char *const words[], char *const environment[]), (path, words, environment), 8, 0)
CALL(int, sem_clockwait, (sem_t *lock, clockid_t clock, const struct timespec *until), (lock, clock, until), 0, 300)
CALL(int, sem_wait, (sem_t *lock), (lock), 0, 300)
CALL(int, sem_post, (sem_t *lock), (lock), 0, 300)

/* As CALL, for the calls that have a last argument only where a file may be created. */
#define OPEN(name, parameters, ...)                                \
    int name parameters {                                          \
        static int(*real) parameters;                              \
        if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
        va_list rest;                                              \
        va_start(rest, flags);                                     \
        mode_t mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                              \
        int got = real(__VA_ARGS__, flags, mode);                  \
        delay(flags & O_CREAT ? 100 : 4000);                       \
        return got;                                                \
    }

OPEN(open, (const char *path, int flags, ...), path)
OPEN(open64, (const char *path, int flags, ...), path)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path)
