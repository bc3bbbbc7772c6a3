/* Records what the service does to the files of its database, and makes their disk fail.
 *
 * Preloaded into each process of the service (LD_PRELOAD). It stands before the calls by which
 * SQLite and Python change files, and looks at those of app.db* (all but the shared memory,
 * app.db-shm) and at the folders above them.
 *
 * Each call and its record are made under one lock for all processes, so that the order in the
 * record is the true one. A sync is two records, where it begins and where it ends: it covers what
 * was written before it began. The disk itself is never asked to sync; the time that takes is a
 * setting. `control` is a file that all share: the lock, and the faults that the tests command.
 *
 *   POWERCUT_DATABASE  absolute path of the database
 *   POWERCUT_CONTROL   the shared file
 *   POWERCUT_RECORD    the record, one struct `entry` after the other
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DATABASE = 1, WAL = 2, LOCK = 4, OTHER = 8, FOLDER = 16, ABOVE = 32 };
enum { CREATE = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, UNLINK, RENAME, MKDIR, ACK };
enum { ON_WRITE = 1, ON_SYNC = 2, ON_TRUNCATE = 4, ON_UNLINK = 8, ON_OPEN = 16 };
enum { NOTHING, FAIL, SHORT, HANG, HOLD };

#define RULES 8
#define FRAME_HEADER 24 /* bytes, before each page in the WAL; they begin with its number */

struct rule {
    int32_t files, calls; /* which: any of these bits; files == 0: the rule is not in use */
    int32_t pid;          /* only of this process; 0: of any */
    int32_t page;         /* only the frame of this page of the database; 0: any write */
    int32_t skip;         /* so many pass first */
    int32_t times;        /* then it applies so often; -1: for ever */
    int32_t action, value; /* FAIL: errno; HANG, of a sync: milliseconds */
    int32_t hits;
    int32_t held;         /* HOLD: the process that waits here, until this is 0 */
};

struct control {
    union { pthread_mutex_t mutex; char room[64]; } lock;
    uint64_t syncs;
    int32_t sync_us;
    int32_t size;
    struct rule rules[RULES];
};

struct entry {
    uint32_t length; /* of all that follows the first four bytes */
    uint16_t kind, file;
    int32_t pid, result;
    uint64_t inode; /* in UNLINK and RENAME: 0 */
    int64_t at;     /* WRITE: offset, TRUNCATE: size, SYNC: its number */
    uint32_t name;  /* bytes of the name that follows, and then the data */
} __attribute__((packed));

struct open_file { uint64_t inode; uint16_t kind, name; };

#define FILES 65536
static struct open_file files[FILES]; /* by descriptor */
static struct control *control;
static const char *database;
static size_t database_length;
static int record_fd = -1;

/* --- what the tests call, too ------------------------------------------------------------- */

int powercut_attach(const char *control_path, const char *record_path)
{
    int fd = syscall(SYS_openat, AT_FDCWD, control_path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return -1;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    record_fd = syscall(SYS_openat, AT_FDCWD, record_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                        0644);
    if (shared == MAP_FAILED || record_fd < 0) return -1;
    control = shared;
    return 0;
}

int powercut_create(const char *control_path, const char *record_path)
{
    int fd = syscall(SYS_openat, AT_FDCWD, control_path, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || ftruncate(fd, sizeof *control) != 0) return -1;
    syscall(SYS_close, fd);
    if (powercut_attach(control_path, record_path) != 0) return -1;
    pthread_mutexattr_t shared;
    pthread_mutexattr_init(&shared);
    pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&control->lock.mutex, &shared);
    control->size = sizeof *control;
    return 0;
}

void powercut_lock(void)
{
    if (pthread_mutex_lock(&control->lock.mutex) == EOWNERDEAD)
        pthread_mutex_consistent(&control->lock.mutex);
}

void powercut_unlock(void)
{
    pthread_mutex_unlock(&control->lock.mutex);
}

static void record(int kind, const struct open_file *file, int64_t at, int result,
                   const char *name, size_t name_length, const void *data, size_t length)
{
    struct entry entry = {
        .length = sizeof entry - sizeof entry.length + name_length + length,
        .kind = kind, .file = file->kind, .pid = getpid(), .result = result,
        .inode = file->inode, .at = at, .name = name_length,
    };
    struct iovec parts[] = {
        { &entry, sizeof entry }, { (void *)name, name_length }, { (void *)data, length },
    };
    ssize_t whole = sizeof entry + name_length + length;
    if (writev(record_fd, parts, 3) != whole) abort(); /* a record with a hole shows nothing */
}

void powercut_acknowledge(const char *message_id)
{
    struct open_file none = { 0 };
    powercut_lock();
    record(ACK, &none, 0, 0, message_id, strlen(message_id), NULL, 0);
    powercut_unlock();
}

/* --- which files, and which faults -------------------------------------------------------- */

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("POWERCUT_DATABASE");
    const char *shared = getenv("POWERCUT_CONTROL"), *to = getenv("POWERCUT_RECORD");
    if (!path || !shared || !to) return;
    if (powercut_attach(shared, to) != 0 || control->size != sizeof *control) abort();
    database = path;
    database_length = strlen(path);
}

static int kind_of(const char *path)
{
    if (!database || !path || path[0] != '/') return 0;
    if (strncmp(path, database, database_length) == 0) {
        const char *end = path + database_length;
        if (!*end) return DATABASE;
        if (strcmp(end, "-wal") == 0) return WAL;
        if (strcmp(end, ".lock") == 0) return LOCK;
        return strcmp(end, "-shm") == 0 || strchr(end, '/') ? 0 : OTHER;
    }
    size_t length = strlen(path);
    if (length < 2 || strncmp(path, database, length) != 0 || database[length] != '/') return 0;
    return strchr(database + length + 1, '/') ? ABOVE : FOLDER;
}

static struct open_file *known(int fd)
{
    return database && fd >= 0 && fd < FILES && files[fd].kind ? &files[fd] : NULL;
}

/* Take the lock, and return what is commanded for this call; who is held waits here. */
static struct rule enter(int kind, int call, const void *data, size_t length)
{
    powercut_lock();
    struct rule found = { 0 };
    for (int number = 0; number < RULES; number++) {
        struct rule *rule = &control->rules[number];
        if (!(rule->files & kind) || !(rule->calls & call) || !rule->times) continue;
        if (rule->pid && rule->pid != getpid()) continue;
        if (rule->page) {
            const unsigned char *bytes = data;
            if (kind != WAL || call != ON_WRITE || length != FRAME_HEADER) continue;
            if ((bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]) != rule->page) continue;
        }
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        if (found.action != NOTHING) continue;
        if (rule->times > 0) rule->times--;
        rule->hits++;
        found = *rule;
        if (rule->action == HOLD) {
            rule->held = getpid();
            while (__atomic_load_n(&rule->held, __ATOMIC_ACQUIRE)) {
                powercut_unlock();
                usleep(300);
                powercut_lock();
            }
        }
    }
    return found;
}

static void pause_us(int64_t us)
{
    if (us > 0) usleep(us);
}

/* --- the calls ---------------------------------------------------------------------------- */

static ssize_t do_write(struct open_file *file, int fd, const void *data, size_t length, off_t at)
{
    struct rule rule = enter(file->kind, ON_WRITE, data, length);
    ssize_t written = -1;
    int problem = rule.value;
    if (rule.action != FAIL) {
        if (rule.action == SHORT && length > 1) length /= 2;
        written = at < 0 ? syscall(SYS_write, fd, data, length)
                         : syscall(SYS_pwrite64, fd, data, length, at);
        problem = errno;
        if (at < 0 && written > 0) at = lseek(fd, 0, SEEK_CUR) - written;
        if (written > 0) record(WRITE, file, at, 0, NULL, 0, data, written);
    }
    powercut_unlock();
    errno = problem;
    return written;
}

ssize_t write(int fd, const void *data, size_t length)
{
    struct open_file *file = known(fd);
    return file ? do_write(file, fd, data, length, -1) : syscall(SYS_write, fd, data, length);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at)
{
    struct open_file *file = known(fd);
    return file ? do_write(file, fd, data, length, at)
                : syscall(SYS_pwrite64, fd, data, length, at);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    return pwrite64(fd, data, length, at);
}

int ftruncate64(int fd, off_t size)
{
    struct open_file *file = known(fd);
    if (!file) return syscall(SYS_ftruncate, fd, size);
    struct rule rule = enter(file->kind, ON_TRUNCATE, NULL, 0);
    int result = -1, problem = rule.value;
    if (rule.action != FAIL) {
        result = syscall(SYS_ftruncate, fd, size);
        problem = errno;
        if (result == 0) record(TRUNCATE, file, size, 0, NULL, 0, NULL, 0);
    }
    powercut_unlock();
    errno = problem;
    return result;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

/* Without the lock while it takes its time: others write meanwhile, as with a real disk. */
static int do_sync(struct open_file *file)
{
    struct open_file synced = *file;
    const char *name = synced.name ? database : NULL;
    struct rule rule = enter(synced.kind, ON_SYNC, NULL, 0);
    uint64_t number = ++control->syncs;
    int failed = rule.action == FAIL ? rule.value : 0;
    record(SYNC_BEGIN, &synced, number, 0, name, synced.name, NULL, 0);
    powercut_unlock();
    pause_us(rule.action == HANG ? rule.value * 1000L : control->sync_us);
    powercut_lock();
    record(SYNC_END, &synced, number, failed, name, synced.name, NULL, 0);
    powercut_unlock();
    errno = failed;
    return failed ? -1 : 0;
}

int fdatasync(int fd)
{
    struct open_file *file = known(fd);
    return file ? do_sync(file) : syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    struct open_file *file = known(fd);
    return file ? do_sync(file) : syscall(SYS_fsync, fd);
}

static int do_open(int folder, const char *path, int flags, mode_t mode)
{
    int kind = kind_of(path);
    if (!kind) return syscall(SYS_openat, folder, path, flags, mode);
    struct rule rule = enter(kind, ON_OPEN, NULL, 0);
    int fd = -1, problem = rule.value;
    if (rule.action != FAIL) {
        int is_new = flags & O_CREAT && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
        fd = syscall(SYS_openat, folder, path, flags, mode);
        problem = errno;
        struct stat found;
        if (fd >= 0 && fd < FILES && fstat(fd, &found) == 0) {
            int is_folder = kind & (FOLDER | ABOVE);
            struct open_file file = { found.st_ino, kind, is_folder ? strlen(path) : 0 };
            files[fd] = file;
            if (is_new) record(CREATE, &file, 0, 0, path, strlen(path), NULL, 0);
            else if (flags & O_TRUNC) record(TRUNCATE, &file, 0, 0, NULL, 0, NULL, 0);
        }
    }
    powercut_unlock();
    errno = problem;
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(folder, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

int close(int fd)
{
    if (fd >= 0 && fd < FILES) files[fd].kind = 0;
    return syscall(SYS_close, fd);
}

int unlink(const char *path)
{
    int kind = kind_of(path);
    if (!kind) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    struct open_file file = { 0, kind, 0 };
    struct rule rule = enter(kind, ON_UNLINK, NULL, 0);
    int result = -1, problem = rule.value;
    if (rule.action != FAIL) {
        result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        problem = errno;
        if (result == 0) record(UNLINK, &file, 0, 0, path, strlen(path), NULL, 0);
    }
    powercut_unlock();
    errno = problem;
    return result;
}

int rename(const char *from, const char *to)
{
    struct open_file file = { 0, kind_of(from) | kind_of(to), 0 };
    if (!file.kind) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    powercut_lock();
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), problem = errno;
    if (result == 0) record(RENAME, &file, 0, 0, from, strlen(from), to, strlen(to));
    powercut_unlock();
    errno = problem;
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    struct open_file file = { 0, kind_of(path), 0 };
    if (!file.kind) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    powercut_lock();
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode), problem = errno;
    if (result == 0) record(MKDIR, &file, 0, 0, path, strlen(path), NULL, 0);
    powercut_unlock();
    errno = problem;
    return result;
}
