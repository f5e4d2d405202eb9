/* For LD_PRELOAD: writes what a program does to the files under POWER_ROOT into the file POWER_LOG, in order.
 *
 * A record is a line, and behind `W` the data:
 *   C PATH          a file was created         W PATH OFFSET LENGTH   written
 *   M PATH          a directory was created    T PATH LENGTH          truncated or extended
 *   U PATH          removed                    S PATH BEFORE          synced: what the log has before this offset
 *   R OLD NEW       renamed
 *
 * Nothing is synced in truth: the test knows from the log what a power loss leaves (tests/power/crash.rs). A sync takes a
 * moment, so that there is time to do something too early. Paths are relative and hold no spaces. Memory maps are not
 * seen: SQLite maps only its -shm file, which it makes anew. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536
static char *paths[FILES]; /* by descriptor */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static int log_fd = -1;
static off_t log_end;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    root = getenv("POWER_ROOT");
    const char *path = getenv("POWER_LOG");
    if (!root || !path) abort();
    log_fd = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat status;
    if (log_fd < 0 || fstat(log_fd, &status)) abort();
    log_end = status.st_size;
}

/* The path below the root, or nothing. */
static const char *below(const char *path) {
    size_t length = root && path ? strlen(root) : 0;
    if (!length || strncmp(path, root, length)) return NULL;
    if (!path[length]) return ".";
    return path[length] == '/' ? path + length + 1 : NULL;
}

static const char *of(int fd) { return fd >= 0 && fd < FILES ? paths[fd] : NULL; }

static void append(const void *data, size_t length) {
    const char *next = data;
    while (length) {
        ssize_t written = REAL(write)(log_fd, next, length);
        if (written <= 0) abort();
        next += written, length -= written, log_end += written;
    }
}

static void record(const char *format, ...) {
    char line[2048];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    append(line, length);
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    const char *name = dir == AT_FDCWD ? below(path) : NULL;
    if (!name) return REAL(openat)(dir, path, flags, mode);
    pthread_mutex_lock(&order);
    struct stat status;
    int exists = !stat(path, &status);
    int fd = REAL(openat)(dir, path, flags, mode);
    if (fd >= 0 && fd < FILES) {
        free(paths[fd]);
        paths[fd] = strdup(name);
        if (!exists) record("C %s\n", name);
        else if (flags & O_TRUNC) record("T %s 0\n", name);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list values; \
        va_start(values, flags); \
        mode = va_arg(values, mode_t); \
        va_end(values); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }

int close(int fd) {
    if (of(fd)) {
        pthread_mutex_lock(&order);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&order);
    }
    return REAL(close)(fd);
}

static void wrote(int fd, off_t offset, const void *data, ssize_t length) {
    if (length <= 0) return;
    record("W %s %lld %zd\n", paths[fd], (long long)offset, length);
    append(data, length);
}

static off_t position(int fd) {
    struct stat status;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &status) ? 0 : status.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!of(fd)) return REAL(write)(fd, data, length);
    pthread_mutex_lock(&order);
    off_t offset = position(fd);
    ssize_t written = REAL(write)(fd, data, length);
    wrote(fd, offset, data, written);
    pthread_mutex_unlock(&order);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    if (!of(fd)) return REAL(pwrite64)(fd, data, length, offset);
    pthread_mutex_lock(&order);
    ssize_t written = REAL(pwrite64)(fd, data, length, offset);
    wrote(fd, offset, data, written);
    pthread_mutex_unlock(&order);
    return written;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (of(fd)) abort(); /* not used on files */
    return REAL(writev)(fd, parts, count);
}

int ftruncate64(int fd, off64_t length) {
    if (!of(fd)) return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&order);
    int failed = REAL(ftruncate64)(fd, length);
    if (!failed) record("T %s %lld\n", paths[fd], (long long)length);
    pthread_mutex_unlock(&order);
    return failed;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    if (!of(fd)) return 0;
    pthread_mutex_lock(&order);
    long long before = log_end;
    pthread_mutex_unlock(&order);
    usleep(1000);
    pthread_mutex_lock(&order);
    record("S %s %lld\n", paths[fd], before);
    pthread_mutex_unlock(&order);
    return 0;
}
int fdatasync(int fd) { return fsync(fd); }

int unlink(const char *path) {
    const char *name = below(path);
    if (!name) return REAL(unlink)(path);
    pthread_mutex_lock(&order);
    int failed = REAL(unlink)(path);
    if (!failed) record("U %s\n", name);
    pthread_mutex_unlock(&order);
    return failed;
}

int rename(const char *old, const char *new) {
    const char *from = below(old), *to = below(new);
    if (!from || !to) return REAL(rename)(old, new);
    pthread_mutex_lock(&order);
    int failed = REAL(rename)(old, new);
    if (!failed) record("R %s %s\n", from, to);
    pthread_mutex_unlock(&order);
    return failed;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (!name) return REAL(mkdir)(path, mode);
    pthread_mutex_lock(&order);
    int failed = REAL(mkdir)(path, mode);
    if (!failed) record("M %s\n", name);
    pthread_mutex_unlock(&order);
    return failed;
}
