/* Preloaded before libc: syncs, and comes back DELAY_US microseconds later, as from a disk that is so much slower. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int held_back(long call, int fd) {
    const struct timespec delay = {DELAY_US / 1000000, DELAY_US % 1000000 * 1000L};
    const int result = (int)syscall(call, fd);
    const int error = errno;
    nanosleep(&delay, NULL);
    errno = error;
    return result;
}

int fsync(int fd) { return held_back(SYS_fsync, fd); }

int fdatasync(int fd) { return held_back(SYS_fdatasync, fd); }
