/* Preloaded into the server by the tests: what a disk has kept, and dying at a chosen fsync.

   A file's bytes are on the disk when fsync(2) or fdatasync(2) has returned, its name when its directory has been
   fsynced. SHIM_MIRROR is a directory that gets exactly that, and nothing that was only written: after a power cut
   it is what could be left at worst. <name> is a copy of the file at its last fsync, <name>@ says that its name is safe.

   SHIM_KILL is SUFFIX:before:N or SUFFIX:after:N: kill -9 of the whole process at the Nth fsync of a file whose name
   ends so. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int seen;

static int ends(const char *text, const char *end, size_t length) {
    size_t all = strlen(text);
    return all >= length && !strncmp(text + all - length, end, length);
}

static void maybe_die(const char *path, const char *when) {
    const char *plan = getenv("SHIM_KILL");
    if (!plan) return;
    const char *colon = strchr(plan, ':');
    const char *number = strrchr(plan, ':');
    if (!ends(path, plan, colon - plan) || strncmp(colon + 1, when, strlen(when))) return;
    if (++seen == atoi(number + 1)) kill(0, SIGKILL); /* the process group: parent, workers */
}

static void copy(const char *path, const char *mirror, const char *name) {
    char to[PATH_MAX], partial[PATH_MAX + 8], buffer[65536];
    snprintf(to, sizeof to, "%s/%s", mirror, name);
    snprintf(partial, sizeof partial, "%s.partial", to);
    int in = open(path, O_RDONLY | O_CLOEXEC), out = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, n) != n) abort();
    close(in);
    close(out);
    rename(partial, to);
}

static void keep(int descriptor, const char *path) {
    const char *mirror = getenv("SHIM_MIRROR");
    struct stat info;
    if (!mirror || fstat(descriptor, &info)) return;
    if (S_ISREG(info.st_mode)) {
        copy(path, mirror, strrchr(path, '/') + 1);
    } else if (S_ISDIR(info.st_mode)) {
        DIR *directory = opendir(path);
        struct dirent *entry;
        while (directory && (entry = readdir(directory))) {
            char to[PATH_MAX];
            snprintf(to, sizeof to, "%s/%s@", mirror, entry->d_name);
            if (entry->d_type == DT_REG) close(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        }
        if (directory) closedir(directory);
    }
}

static int sync_with(const char *which, int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, which);
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return real(descriptor);
    path[length] = 0;
    pthread_mutex_lock(&lock);
    maybe_die(path, "before");
    int result = real(descriptor);
    if (!result) keep(descriptor, path);
    maybe_die(path, "after");
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int descriptor) { return sync_with("fsync", descriptor); }
int fdatasync(int descriptor) { return sync_with("fdatasync", descriptor); }
