/* Makes a disk fail, for one process: LD_PRELOAD this. From the FAIL_FROM-th change on of files whose path contains
   FAIL_PATH, every one fails with FAIL_ERRNO (EIO, ENOSPC as numbers). FAIL_COUNT names a file that gets the number of
   changes at the end. A change is a write, a truncation, an fsync, a rename. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long changes;

static int named(const char *path)
{
    const char *wanted = getenv("FAIL_PATH");
    return wanted && path && strstr(path, wanted);
}

static int meant(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return named(path);
}

static int fails(int ours)
{
    if (!ours)
        return 0;
    const char *from = getenv("FAIL_FROM"), *number = getenv("FAIL_ERRNO");
    if (__sync_add_and_fetch(&changes, 1) < (from ? atol(from) : 1L << 40))
        return 0;
    errno = number ? atoi(number) : EIO;
    return 1;
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) { return fails(meant(fd)) ? -1 : REAL(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return fails(meant(fd)) ? -1 : REAL(pwrite)(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return fails(meant(fd)) ? -1 : REAL(pwrite64)(fd, data, size, at); }
int ftruncate(int fd, off_t size) { return fails(meant(fd)) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails(meant(fd)) ? -1 : REAL(ftruncate64)(fd, size); }
int fsync(int fd) { return fails(meant(fd)) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(meant(fd)) ? -1 : REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { return fails(named(to)) ? -1 : REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { return fails(named(to) || meant(b)) ? -1 : REAL(renameat)(a, from, b, to); }

__attribute__((destructor)) static void tell(void)
{
    const char *file = getenv("FAIL_COUNT");
    FILE *out = file ? fopen(file, "w") : NULL;
    if (out) {
        fprintf(out, "%ld\n", changes);
        fclose(out);
    }
}
