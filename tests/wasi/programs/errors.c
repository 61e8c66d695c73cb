/* Provokes errors and prints their numbers, a name and a number a line. The test makes the directory: d, full/x, f,
   links absolute -> /etc/passwd, loop -> loop, dl -> d. */
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

#define R __WASI_RIGHTS_FD_READ
#define W __WASI_RIGHTS_FD_WRITE
#define CREAT __WASI_OFLAGS_CREAT
#define DIRECTORY __WASI_OFLAGS_DIRECTORY
#define EXCL __WASI_OFLAGS_EXCL
#define TRUNC __WASI_OFLAGS_TRUNC

static unsigned char buffer[8192];
static __wasi_fd_t unused;

static void show(const char *name, int number) { printf("%s %d\n", name, number); }

static int open_at(int dir, int follow, const char *path, int oflags, __wasi_rights_t rights, int fdflags, __wasi_fd_t *fd) {
    return __wasi_path_open(dir, follow, path, oflags, rights, rights, fdflags, fd);
}

static int try_open(const char *path, int oflags, __wasi_rights_t rights) {
    __wasi_fd_t fd;
    int result = open_at(3, 1, path, oflags, rights, 0, &fd);
    if (!result) (void)!__wasi_fd_close(fd);
    return result;
}

static void opening(void) {
    show("open-absent", try_open("absent", 0, R));
    show("open-empty", try_open("", 0, R));
    show("open-up", try_open("..", 0, R));
    show("open-up-file", try_open("../f", 0, R));
    show("open-down-and-up", try_open("d/../../f", 0, R));
    show("open-inside", try_open("d/../f", 0, R));
    show("open-absolute", try_open("/etc/passwd", 0, R));
    show("open-absolute-link", try_open("absolute", 0, R));
    show("open-loop", try_open("loop", 0, R));
    show("open-link-unfollowed", open_at(3, 0, "absolute", 0, R, 0, &unused));
    show("open-through-file", try_open("f/x", 0, R));
    show("open-file-slash", try_open("f/", 0, R));
    show("open-absent-slash", try_open("absent/", CREAT, R | W));
    show("open-file-as-directory", try_open("f", DIRECTORY, R));
    show("open-directory-to-write", try_open("d", 0, R | W));
    show("open-directory-only-to-write", try_open("d", 0, W));
    show("open-directory-to-make", try_open("d", CREAT, R | W));
    show("open-make-directory", try_open("absent", CREAT | DIRECTORY, R | W));
    show("open-exclusive", try_open("f", CREAT | EXCL, R | W));
    show("open-exclusive-link", try_open("loop", CREAT | EXCL, R | W));
    show("open-truncate-to-read", try_open("f", TRUNC, R));
    show("open-long-name", (memset(buffer, 'a', 300), buffer[300] = 0, try_open((char *)buffer, 0, R)));
    memset(buffer, '/', 5000);
    for (int i = 0; i < 5000; i += 2) buffer[i] = 'a';
    buffer[5000] = 0;
    show("open-long-path", try_open((char *)buffer, 0, R));
    show("open-no-text", try_open("\xff\xfe", 0, R));
    show("open-in-file", open_at(4, 1, "x", 0, R, 0, &unused));
    show("open-in-stdin", open_at(0, 1, "x", 0, R, 0, &unused));
    show("open-in-nothing", open_at(99, 1, "x", 0, R, 0, &unused));
    show("open-synchronous", open_at(3, 1, "f", 0, R | W, __WASI_FDFLAGS_SYNC, &unused));
}

static void descriptors(int file, int dir) {
    __wasi_size_t n;
    __wasi_filesize_t position;
    __wasi_iovec_t in = {buffer, 10};
    __wasi_ciovec_t out = {buffer, 10};
    __wasi_fd_t reader, writer;
    __wasi_prestat_t prestat;
    show("reader", open_at(3, 1, "f", 0, R, 0, &reader));
    show("writer", open_at(3, 1, "f", 0, W, 0, &writer));
    show("read-directory", __wasi_fd_read(dir, &in, 1, &n));
    show("write-directory", __wasi_fd_write(dir, &out, 1, &n));
    show("pread-directory", __wasi_fd_pread(dir, &in, 1, 0, &n));
    show("pwrite-directory", __wasi_fd_pwrite(dir, &out, 1, 0, &n));
    show("seek-directory", __wasi_fd_seek(dir, 0, 0, &position));
    show("tell-directory", __wasi_fd_tell(dir, &position));
    show("seek-stdin", __wasi_fd_seek(0, 0, 0, &position));
    show("tell-stdout", __wasi_fd_tell(1, &position));
    show("pread-stdin", __wasi_fd_pread(0, &in, 1, 0, &n));
    show("pwrite-stdout", __wasi_fd_pwrite(1, &out, 1, 0, &n));
    show("write-stdin", __wasi_fd_write(0, &out, 1, &n));
    show("read-stdout", __wasi_fd_read(1, &in, 1, &n));
    show("read-writer", __wasi_fd_read(writer, &in, 1, &n));
    show("write-reader", __wasi_fd_write(reader, &out, 1, &n));
    show("pwrite-reader", __wasi_fd_pwrite(reader, &out, 1, 0, &n));
    show("read-nothing", __wasi_fd_read(99, &in, 1, &n));
    show("seek-negative", __wasi_fd_seek(file, -5, 0, &position));
    show("pread-negative", __wasi_fd_pread(file, &in, 1, -1, &n));
    show("pwrite-negative", __wasi_fd_pwrite(file, &out, 1, -2, &n));
    show("size-directory", __wasi_fd_filestat_set_size(dir, 1));
    show("size-reader", __wasi_fd_filestat_set_size(reader, 1));
    show("size-negative", __wasi_fd_filestat_set_size(file, -1));
    show("times-both", __wasi_fd_filestat_set_times(file, 1, 1, 3));
    show("times-stdin", __wasi_fd_filestat_set_times(0, 1, 1, 5));
    show("allocate", __wasi_fd_allocate(file, 0, 10));
    show("allocate-directory", __wasi_fd_allocate(dir, 0, 10));
    show("advise-directory", __wasi_fd_advise(dir, 0, 0, 0));
    show("advise-negative", __wasi_fd_advise(file, 0, -1, 0));
    show("sync-file", __wasi_fd_sync(file));
    show("sync-directory", __wasi_fd_sync(dir));
    show("sync-stdin", __wasi_fd_sync(0));
    show("flags-file", __wasi_fd_fdstat_set_flags(file, __WASI_FDFLAGS_APPEND));
    show("flags-sync", __wasi_fd_fdstat_set_flags(file, __WASI_FDFLAGS_SYNC));
    show("flags-directory", __wasi_fd_fdstat_set_flags(dir, 0));
    show("flags-stdin", __wasi_fd_fdstat_set_flags(0, 0));
    show("readdir-file", __wasi_fd_readdir(file, buffer, 100, 0, &n));
    show("renumber-from-nothing", __wasi_fd_renumber(77, file));
    show("renumber-to-nothing", __wasi_fd_renumber(file, 77));
    show("prestat-file", __wasi_fd_prestat_get(file, &prestat));
    show("prestat-directory", __wasi_fd_prestat_get(dir, &prestat));
    show("prestat-nothing", __wasi_fd_prestat_get(99, &prestat));
    show("prestat-name-short", __wasi_fd_prestat_dir_name(3, buffer, 0));
    show("prestat-name-file", __wasi_fd_prestat_dir_name(file, buffer, 9));
    show("close-nothing", __wasi_fd_close(99));
    show("close-twice", __wasi_fd_close(reader) + __wasi_fd_close(reader));
    show("rights-file", __wasi_fd_fdstat_set_rights(writer, W, 0));
}

static void paths(int file) {
    __wasi_filestat_t st;
    __wasi_size_t n;
    show("stat-in-file", __wasi_path_filestat_get(file, 1, "x", &st));
    show("stat-absent", __wasi_path_filestat_get(3, 1, "absent", &st));
    show("stat-file-slash", __wasi_path_filestat_get(3, 1, "f/", &st));
    show("stat-up", __wasi_path_filestat_get(3, 1, "../", &st));
    show("times-absent", __wasi_path_filestat_set_times(3, 1, "absent", 1, 1, 5));
    show("mkdir-exists", __wasi_path_create_directory(3, "d"));
    show("mkdir-dot", __wasi_path_create_directory(3, "."));
    show("mkdir-empty", __wasi_path_create_directory(3, ""));
    show("mkdir-deep", __wasi_path_create_directory(3, "absent/x"));
    show("mkdir-in-file", __wasi_path_create_directory(3, "f/x"));
    show("mkdir-up", __wasi_path_create_directory(3, "../x"));
    show("rmdir-file", __wasi_path_remove_directory(3, "f"));
    show("rmdir-dot", __wasi_path_remove_directory(3, "."));
    show("rmdir-absent", __wasi_path_remove_directory(3, "absent"));
    show("rmdir-full", __wasi_path_remove_directory(3, "full"));
    show("rmdir-link", __wasi_path_remove_directory(3, "dl"));
    show("rmdir-link-slash", __wasi_path_remove_directory(3, "dl/"));
    show("rmdir-up", __wasi_path_remove_directory(3, ".."));
    show("unlink-directory", __wasi_path_unlink_file(3, "d"));
    show("unlink-directory-slash", __wasi_path_unlink_file(3, "d/"));
    show("unlink-file-slash", __wasi_path_unlink_file(3, "f/"));
    show("unlink-link-slash", __wasi_path_unlink_file(3, "dl/"));
    show("unlink-dot", __wasi_path_unlink_file(3, "."));
    show("unlink-absent", __wasi_path_unlink_file(3, "absent"));
    show("rename-absent", __wasi_path_rename(3, "absent", 3, "x"));
    show("rename-file-over-directory", __wasi_path_rename(3, "f", 3, "d"));
    show("rename-directory-over-file", __wasi_path_rename(3, "d", 3, "f"));
    show("rename-over-full", __wasi_path_rename(3, "d", 3, "full"));
    show("rename-into-itself", __wasi_path_rename(3, "d", 3, "d/x"));
    show("rename-dot", __wasi_path_rename(3, ".", 3, "x"));
    show("rename-file-slash", __wasi_path_rename(3, "f/", 3, "x"));
    show("rename-to-slash", __wasi_path_rename(3, "f", 3, "x/"));
    show("rename-up", __wasi_path_rename(3, "f", 3, "../x"));
    show("link-exists", __wasi_path_link(3, 0, "f", 3, "f"));
    show("link-directory", __wasi_path_link(3, 0, "d", 3, "x"));
    show("link-absent", __wasi_path_link(3, 0, "absent", 3, "x"));
    show("link-to-slash", __wasi_path_link(3, 0, "f", 3, "x/"));
    show("link-file-slash", __wasi_path_link(3, 0, "f/", 3, "x"));
    show("link-follow", __wasi_path_link(3, 1, "f", 3, "followed"));
    show("symlink-exists", __wasi_path_symlink("a", 3, "f"));
    show("symlink-empty", __wasi_path_symlink("", 3, "x"));
    show("symlink-absolute", __wasi_path_symlink("/etc/passwd", 3, "x"));
    show("symlink-to-slash", __wasi_path_symlink("a", 3, "x/"));
    show("symlink-up", __wasi_path_symlink("../../x", 3, "out"));
    show("open-symlink-up", try_open("out", 0, R));
    show("readlink-file", __wasi_path_readlink(3, "f", buffer, 10, &n));
    show("readlink-absent", __wasi_path_readlink(3, "absent", buffer, 10, &n));
    show("readlink-absolute", __wasi_path_readlink(3, "absolute", buffer, 10, &n));
    show("readlink-cut-off", __wasi_path_readlink(3, "out", buffer, 3, &n) + 1000 * n);
    show("mkdir-slash", __wasi_path_create_directory(3, "made/"));
    show("rmdir-slash", __wasi_path_remove_directory(3, "made/"));
}

static void rest(int file, int dir) {
    __wasi_timestamp_t now;
    __wasi_size_t n;
    __wasi_event_t event;
    __wasi_subscription_t subscription = {0};
    __wasi_iovec_t in = {buffer, 10};
    __wasi_ciovec_t out = {buffer, 10};
    __wasi_roflags_t flags;
    show("clock-cpu", __wasi_clock_time_get(__WASI_CLOCKID_PROCESS_CPUTIME_ID, 0, &now));
    show("clock-cpu-resolution", __wasi_clock_res_get(__WASI_CLOCKID_THREAD_CPUTIME_ID, &now));
    show("poll-nothing", __wasi_poll_oneoff(&subscription, &event, 0, &n));
    subscription.u.tag = __WASI_EVENTTYPE_FD_READ;
    subscription.u.u.fd_read.file_descriptor = 99;
    show("poll-no-file", __wasi_poll_oneoff(&subscription, &event, 1, &n));
    subscription.u.u.fd_read.file_descriptor = dir;
    show("poll-directory", __wasi_poll_oneoff(&subscription, &event, 1, &n));
    subscription.u.tag = __WASI_EVENTTYPE_CLOCK;
    subscription.u.u.clock.id = __WASI_CLOCKID_PROCESS_CPUTIME_ID;
    show("poll-cpu", __wasi_poll_oneoff(&subscription, &event, 1, &n));
    show("accept-file", __wasi_sock_accept(file, 0, &unused));
    show("recv-file", __wasi_sock_recv(file, &in, 1, 0, &n, &flags));
    show("send-file", __wasi_sock_send(file, &out, 1, 0, &n));
    show("shutdown-file", __wasi_sock_shutdown(file, 3));
    show("accept-nothing", __wasi_sock_accept(99, 0, &unused));
    show("shutdown-nothing", __wasi_sock_shutdown(99, 3));
    show("recv-stdin", __wasi_sock_recv(0, &in, 1, 0, &n, &flags));
}

int main(void) {
    __wasi_fd_t file, dir;
    show("file", open_at(3, 1, "f", 0, R | W, 0, &file));
    show("directory", open_at(3, 1, "d", DIRECTORY, R, 0, &dir));
    show("numbers", file * 100 + dir);
    opening();
    paths(file);
    descriptors(file, dir);
    rest(file, dir);
    return 0;
}
