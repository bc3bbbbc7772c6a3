/* Preloaded into a server: each fsync takes SLOW_FSYNC_US longer, as on network block storage. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void delay(void)
{
    const char *microseconds = getenv("SLOW_FSYNC_US");
    if (microseconds)
        usleep(atoi(microseconds));
}

int fsync(int fd)
{
    delay();
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    delay();
    return syscall(SYS_fdatasync, fd);
}
